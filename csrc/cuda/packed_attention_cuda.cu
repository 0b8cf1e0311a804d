// Launchers of packed_attention_kernel.cuh; a head's size picks how many numbers a lane holds.
#include <type_traits>

#include "carver.h"
#include "packed_attention_kernel.cuh"

namespace mclrec::cuda {
namespace {

template <typename Real, typename Run>
void by_size(int size, Run&& run) {
  if constexpr (!kWidestOnly<Real>) {
    if (size <= 32) return run(std::integral_constant<int, 1>());
    if (size <= 64) return run(std::integral_constant<int, 2>());
  }
  run(std::integral_constant<int, 8>());
}
static_assert(kWidestHead == 8 * kWarpSize, "the widest head");

template <typename Real>
Attention<Real> attention_of(const PackedAttentionParams<Real>& params, Real* out, Real* lse) {
  return {params.offsets,
          params.capacity,
          params.sequences,
          static_cast<int>(params.heads),
          static_cast<int>(params.size),
          params.query,
          params.key,
          params.value,
          params.heads * params.size,
          params.visible,
          nullptr,
          dropout_site(params.p, params.seed, params.update, static_cast<int>(params.layer),
                       kSiteAttention),
          out,
          lse};
}

template <typename Real>
bool nothing_to_do(const PackedAttentionParams<Real>& params) {
  return params.sequences == 0 || params.capacity == 0;
}

}  // namespace

template <typename Real>
void packed_attention(const Attention<Real>& job, void* stream) {
  const Launch shape({blocks_for(job.sequences * job.heads, 1), kAttentionThreads, 0,
                      static_cast<cudaStream_t>(stream)});
  by_size<Real>(job.size, [&](auto parts) {
    launch(shape, packed_attention_kernel<Real, decltype(parts)::value>, job);
  });
}

template <typename Real>
void packed_attention_backward(const AttentionBackward<Real>& job, void* stream) {
  const Launch shape({blocks_for(job.forward.sequences * job.forward.heads, 1), kAttentionThreads,
                      0, static_cast<cudaStream_t>(stream)});
  by_size<Real>(job.forward.size, [&](auto parts) {
    launch(shape, packed_attention_backward_kernel<Real, decltype(parts)::value>, job);
  });
}

template <typename Real>
void packed_attention_forward(const PackedAttentionParams<Real>& params, Real* out,
                              Context& context) {
  if (nothing_to_do(params)) return;
  Real* lse = context.scratch<Real>(params.capacity * params.heads);
  packed_attention(attention_of(params, out, lse), context.stream());
}

template <typename Real>
void packed_attention_backward(const PackedAttentionParams<Real>& params, const Real* grad_out,
                               Real* const (&grads)[3], Context& context) {
  if (nothing_to_do(params)) return;
  const std::int64_t heads = params.capacity * params.heads;
  const auto job = carve_from<Real>(context, [&](Carver<Real>& carver) {
    Real* const out = carver.take(heads * params.size);
    const Attention<Real> again = attention_of(params, out, carver.take(heads));
    return AttentionBackward<Real>{again,    grad_out, carver.take(heads), grads[0],
                                   grads[1], grads[2], again.stride};
  });
  packed_attention(job.forward, context.stream());
  packed_attention_backward(job, context.stream());
}

#define MCLREC_INSTANTIATE(Real)                                                               \
  template void packed_attention_forward(const PackedAttentionParams<Real>&, Real*, Context&); \
  template void packed_attention_backward(const PackedAttentionParams<Real>&, const Real*,     \
                                          Real* const(&)[3], Context&);
MCLREC_INSTANTIATE(float)
MCLREC_INSTANTIATE(double)
#undef MCLREC_INSTANTIATE

template void packed_attention(const Attention<float>&, void*);
template void packed_attention(const Attention<double>&, void*);
template void packed_attention_backward(const AttentionBackward<float>&, void*);
template void packed_attention_backward(const AttentionBackward<double>&, void*);

}  // namespace mclrec::cuda
