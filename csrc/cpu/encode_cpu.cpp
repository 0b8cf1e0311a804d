// The encoder's kernels for every instruction set, and the calls that cut the batch, pack the
// weights and hand the chunks to the threads.
#include "encode_cpu.h"

#include <algorithm>
#include <limits>

#include "encode_plan.h"
#include "parallel.h"
#include "prefetch.h"
#include "scratch.h"
#include "simd.h"

#define MCLREC_OP encode
#define MCLREC_KERNELS "../encode_kernels.inl"
#include "isa/each_set.inl"

namespace mclrec {

template <class T>
void encode_forward(const EncodeSizes& sizes, const EncodeBatch& batch, const T* const* weights,
                    const EncodeDropout& dropout, T eps, T* h, T* saved) {
  if (sizes.sequences == 0) return;
  static thread_local EncodePlan plan;
  plan.make(batch.offsets, sizes.sequences);
  MCLREC_PICK(encode, forward<T>)(sizes, batch, weights, dropout, eps, plan, h, saved);
}

template <class T>
void encode_backward(const EncodeSizes& sizes, const EncodeBatch& batch, const T* const* weights,
                     const EncodeDropout& dropout, T eps, const T* grad_h, const T* saved,
                     T* const* gradients, bool add_items) {
  static thread_local EncodePlan plan;
  plan.make(batch.offsets, sizes.sequences);
  MCLREC_PICK(encode, backward<T>)
  (sizes, batch, weights, dropout, eps, plan, grad_h, saved, gradients, add_items);
}

template void encode_forward<float>(const EncodeSizes&, const EncodeBatch&, const float* const*,
                                    const EncodeDropout&, float, float*, float*);
template void encode_forward<double>(const EncodeSizes&, const EncodeBatch&, const double* const*,
                                     const EncodeDropout&, double, double*, double*);

template void encode_backward<float>(const EncodeSizes&, const EncodeBatch&, const float* const*,
                                     const EncodeDropout&, float, const float*, const float*,
                                     float* const*, bool);
template void encode_backward<double>(const EncodeSizes&, const EncodeBatch&, const double* const*,
                                      const EncodeDropout&, double, const double*, const double*,
                                      double* const*, bool);

}  // namespace mclrec
