// Compiles an op's kernels for every precision that rounds (precision.h), as each_set.inl does for
// every instruction set: MCLREC_OP and MCLREC_KERNELS are defined before. Float32 only. kParts is
// the number of bf16 numbers that a factor becomes.
#include "amx.h"

#if MCLREC_AMX
#undef MCLREC_ROUNDS
#define MCLREC_ROUNDS 1
MCLREC_PASTE(MCLREC_BEGIN_, amx)
namespace mclrec::MCLREC_OP::bf16x3 {
using namespace mclrec::isa::amx;
constexpr int kParts = 2;
#include MCLREC_KERNELS
}  // namespace mclrec::MCLREC_OP::bf16x3
namespace mclrec::MCLREC_OP::bf16 {
using namespace mclrec::isa::amx;
constexpr int kParts = 1;
#include MCLREC_KERNELS
}  // namespace mclrec::MCLREC_OP::bf16
MCLREC_PASTE(MCLREC_END_, amx)
#undef MCLREC_ROUNDS
#define MCLREC_ROUNDS 0
#endif

#undef MCLREC_OP
#undef MCLREC_KERNELS
