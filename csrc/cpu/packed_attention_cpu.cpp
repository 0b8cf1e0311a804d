// packed_attention for every instruction set: heads of sequences, cut into tasks of similar size.
#include "packed_attention_cpu.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "parallel.h"
#include "scratch.h"
#include "simd.h"

#define MCLREC_OP packed_attention
#define MCLREC_KERNELS "../packed_attention.inl"
#include "isa/each_set.inl"

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
