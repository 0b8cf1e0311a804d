// The encoder's kernels for every instruction set, and the calls that cut the batch, pack the
// weights and hand the chunks to the threads.
#include "encode_cpu.h"

#include <algorithm>
#include <limits>

#include "dropout_bits.h"
#include "encode_plan.h"
#include "parallel.h"
#include "precision.h"
#include "prefetch.h"
#include "scratch.h"
#include "simd.h"

#define MCLREC_OP encode
#define MCLREC_KERNELS "../encode_kernels.inl"
#include "isa/each_set.inl"

#define MCLREC_OP encode
#define MCLREC_KERNELS "../encode_kernels.inl"
#include "isa/each_rounding.inl"

namespace mclrec {

template <class T>
void encode_forward(const EncodeParams<T>& params, T* h, T* saved) {
  if (params.sizes.sequences == 0) return;
  static thread_local EncodePlan plan;
  plan.make(params.batch.offsets, params.sizes.sequences);
  if constexpr (std::is_same_v<T, float>) {
    if (auto* forward = MCLREC_PICK_ROUNDED(encode, forward<float>)) {
      return forward(params, plan, h, saved);
    }
  }
  MCLREC_PICK(encode, forward<T>)(params, plan, h, saved);
}

template <class T>
void encode_backward(const EncodeParams<T>& params, const T* grad_h, const T* saved,
                     T* const* gradients, bool add_items) {
  static thread_local EncodePlan plan;
  plan.make(params.batch.offsets, params.sizes.sequences);
  if constexpr (std::is_same_v<T, float>) {
    if (auto* backward = MCLREC_PICK_ROUNDED(encode, backward<float>)) {
      return backward(params, plan, grad_h, saved, gradients, add_items);
    }
  }
  MCLREC_PICK(encode, backward<T>)(params, plan, grad_h, saved, gradients, add_items);
}

template void encode_forward<float>(const EncodeParams<float>&, float*, float*);
template void encode_forward<double>(const EncodeParams<double>&, double*, double*);

template void encode_backward<float>(const EncodeParams<float>&, const float*, const float*,
                                     float* const*, bool);
template void encode_backward<double>(const EncodeParams<double>&, const double*, const double*,
                                      double* const*, bool);

}  // namespace mclrec
