// Launchers of packed_attention_kernel.cuh; a head's width picks how many numbers a lane holds.
#include <type_traits>

#include "packed_attention_kernel.cuh"

namespace mclrec::cuda {
namespace {

template <typename Real, typename Run>
void by_width(int width, Run&& run) {
  if constexpr (!kWidestOnly<Real>) {
    if (width <= 32) return run(std::integral_constant<int, 1>());
    if (width <= 64) return run(std::integral_constant<int, 2>());
  }
  run(std::integral_constant<int, 8>());
}
static_assert(kWidestHead == 8 * kWarpSize, "the widest head");

}  // namespace

template <typename Real>
void packed_attention(const Attention<Real>& job, void* stream) {
  const Launch shape({blocks_for(job.sequences * job.heads, 1), kAttentionThreads, 0,
                      static_cast<cudaStream_t>(stream)});
  by_width<Real>(job.width, [&](auto parts) {
    launch(shape, packed_attention_kernel<Real, decltype(parts)::value>, job);
  });
}

template <typename Real>
void packed_attention_backward(const AttentionBackward<Real>& job, void* stream) {
  const Launch shape({blocks_for(job.forward.sequences * job.forward.heads, 1), kAttentionThreads,
                      0, static_cast<cudaStream_t>(stream)});
  by_width<Real>(job.forward.width, [&](auto parts) {
    launch(shape, packed_attention_backward_kernel<Real, decltype(parts)::value>, job);
  });
}

template void packed_attention(const Attention<float>&, void*);
template void packed_attention(const Attention<double>&, void*);
template void packed_attention_backward(const AttentionBackward<float>&, void*);
template void packed_attention_backward(const AttentionBackward<double>&, void*);

}  // namespace mclrec::cuda
