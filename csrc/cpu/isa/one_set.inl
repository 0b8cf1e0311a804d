// One instruction set's turn of each_set.inl.
MCLREC_PASTE(MCLREC_BEGIN_, MCLREC_SET)
namespace mclrec::MCLREC_OP::MCLREC_SET {
using namespace mclrec::isa::MCLREC_SET;
#include MCLREC_KERNELS
}  // namespace mclrec::MCLREC_OP::MCLREC_SET
MCLREC_PASTE(MCLREC_END_, MCLREC_SET)
#undef MCLREC_SET
