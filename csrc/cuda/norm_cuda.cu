// Launchers of norm_kernel.cuh; the hidden size picks how many numbers a lane holds.
#include "norm_kernel.cuh"

namespace mclrec::cuda {
namespace {

// How many lanes a row has and how many times four numbers each holds.
template <int kLanes_, int kFours_>
struct Width {
  static constexpr int kLanes = kLanes_, kFours = kFours_;
};

// Calls run(width) with the narrowest width that holds `hidden` numbers.
template <typename Real, typename Run>
void by_width(int hidden, Run&& run) {
  if constexpr (!kWidestOnly<Real>) {
    if (hidden <= 64) return run(Width<16, 1>());
    if (hidden <= 128) return run(Width<32, 1>());
    if (hidden <= 256) return run(Width<32, 2>());
  }
  run(Width<32, 4>());
}
static_assert(kWidestNorm == 32 * 4 * 4, "the widest row");

}  // namespace

template <typename Real>
void embed(const Embed<Real>& job, void* stream) {
  by_width<Real>(job.hidden, [&](auto width) {
    using W = decltype(width);
    launch({blocks_for(job.packed.capacity, kNormRows<W::kLanes>), kNormThreads, 0,
            static_cast<cudaStream_t>(stream)},
           embed_kernel<Real, W::kLanes, W::kFours>, job);
  });
}

template <typename Real>
void residual_norm(const ResidualNorm<Real>& job, void* stream) {
  by_width<Real>(job.hidden, [&](auto width) {
    using W = decltype(width);
    launch({blocks_for(job.rows.count.capacity, kNormRows<W::kLanes>), kNormThreads, 0,
            static_cast<cudaStream_t>(stream)},
           residual_norm_kernel<Real, W::kLanes, W::kFours>, job);
  });
}

template <typename Real>
void norm_backward(const NormBackward<Real>& job, void* stream) {
  by_width<Real>(job.hidden, [&](auto width) {
    using W = decltype(width);
    const std::size_t bytes =
        static_cast<std::size_t>(kNormRows<W::kLanes> * 2 * job.hidden) * sizeof(Real);
    launch({blocks_for(job.rows.count.capacity, job.rows_per_split), kNormThreads, bytes,
            static_cast<cudaStream_t>(stream)},
           norm_backward_kernel<Real, W::kLanes, W::kFours>, job);
  });
}

template void embed(const Embed<float>&, void*);
template void embed(const Embed<double>&, void*);
template void residual_norm(const ResidualNorm<float>&, void*);
template void residual_norm(const ResidualNorm<double>&, void*);
template void norm_backward(const NormBackward<float>&, void*);
template void norm_backward(const NormBackward<double>&, void*);

}  // namespace mclrec::cuda
