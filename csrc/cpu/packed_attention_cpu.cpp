// packed_attention for every instruction set: heads of sequences, cut into tasks of similar size.
#include "packed_attention_cpu.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "parallel.h"
#include "scratch.h"
#include "simd.h"

namespace mclrec::packed_attention::portable {
constexpr int kVectorBytes = 16;
// clang-format off
#include "simd.inl"
#include "vector_math.inl"
#include "transpose.inl"
#include "dropout_bits.inl"
#include "attention_head.inl"
#include "packed_attention.inl"
// clang-format on
}  // namespace mclrec::packed_attention::portable
#if MCLREC_HAS_AVX2
MCLREC_AVX2_BEGIN
namespace mclrec::packed_attention::avx2 {
constexpr int kVectorBytes = 32;
// clang-format off
#include "simd.inl"
#include "vector_math.inl"
#include "transpose.inl"
#include "dropout_bits.inl"
#include "attention_head.inl"
#include "packed_attention.inl"
// clang-format on
}  // namespace mclrec::packed_attention::avx2
MCLREC_AVX2_END
#endif

namespace mclrec {

template <class T>
void packed_attention_forward(const PackedAttention<T>& attention, T* context) {
  MCLREC_PICK(packed_attention, forward<T>)(attention, context);
}

template <class T>
void packed_attention_backward(const PackedAttention<T>& attention, const T* grad_context,
                               T* grad_query, T* grad_key, T* grad_value) {
  MCLREC_PICK(packed_attention, backward<T>)
  (attention, grad_context, grad_query, grad_key, grad_value);
}

template void packed_attention_forward<float>(const PackedAttention<float>&, float*);
template void packed_attention_forward<double>(const PackedAttention<double>&, double*);
template void packed_attention_backward<float>(const PackedAttention<float>&, const float*, float*,
                                               float*, float*);
template void packed_attention_backward<double>(const PackedAttention<double>&, const double*,
                                                double*, double*, double*);

}  // namespace mclrec
