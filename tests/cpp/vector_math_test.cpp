// Errors of csrc/cpu/vector_math.inl against the standard library in double, in every instruction
// set this machine can run. Prints one line per function and set; exits 1 when a stated error is
// exceeded.
#include <chrono>
#include <cstdio>
#include <limits>
#include <vector>

#include "../../csrc/cpu/simd.h"

namespace {

int failures = 0;

void expect(bool condition, const char* isa, const char* what, double value) {
  std::printf("%s %s: %.3g%s\n", isa, what, value, condition ? "" : "  <- FAILED");
  if (!condition) ++failures;
}

}  // namespace

namespace mclrec::test::portable {
constexpr int kVectorBytes = 16;
#include "../../csrc/cpu/simd.inl"
#include "../../csrc/cpu/vector_math.inl"
#include "vector_math_test.inl"
}  // namespace mclrec::test::portable
#if MCLREC_HAS_AVX2
MCLREC_AVX2_BEGIN
namespace mclrec::test::avx2 {
constexpr int kVectorBytes = 32;
#include "../../csrc/cpu/simd.inl"
#include "../../csrc/cpu/vector_math.inl"
#include "vector_math_test.inl"
}  // namespace mclrec::test::avx2
MCLREC_AVX2_END
#endif

int main() {
  mclrec::test::portable::run("portable");
#if MCLREC_HAS_AVX2
  if (mclrec::isa_usable(mclrec::Isa::kAvx2)) mclrec::test::avx2::run("avx2");
#endif
  std::printf("%d failed\n", failures);
  return failures == 0 ? 0 : 1;
}
