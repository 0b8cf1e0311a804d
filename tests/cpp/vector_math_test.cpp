// Errors of csrc/cpu/vector_math.inl against the standard library in double, in every instruction
// set this machine can run. Prints one line per function and set; exits 1 when a stated error is
// exceeded.
#include <chrono>
#include <cstdio>
#include <limits>
#include <vector>

#include "../../csrc/cpu/dropout_bits.h"
#include "../../csrc/cpu/simd.h"

namespace {

int failures = 0;

void expect(bool condition, const char* isa, const char* what, double value) {
  std::printf("%s %s: %.3g%s\n", isa, what, value, condition ? "" : "  <- FAILED");
  if (!condition) ++failures;
}

}  // namespace

#define MCLREC_OP test
#define MCLREC_KERNELS "../../../tests/cpp/vector_math_test.inl"
#include "../../csrc/cpu/isa/each_set.inl"

#define MCLREC_RUN(set)                         \
  if (mclrec::isa::set::supported()) {          \
    mclrec::test::set::run(#set);               \
  } else {                                      \
    std::printf("%s: cannot run here\n", #set); \
  }

int main() {
  MCLREC_EACH_SET(MCLREC_RUN)
  std::printf("%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
