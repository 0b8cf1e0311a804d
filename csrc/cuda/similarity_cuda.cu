// Launchers of similarity_kernel.cuh.
#include "similarity_kernel.cuh"

namespace mclrec::cuda {
namespace {

template <typename Product>
void statistics(const Statistics<typename Product::Real>& job, void* stream) {
  const dim3 grid(blocks_for(job.batch, kTile), static_cast<unsigned>(job.strips));
  launch({grid, kTileThreads, strip_shared_bytes<typename Product::Real>(job.hidden),
          static_cast<cudaStream_t>(stream)},
         similarity_statistics_kernel<Product>, job);
}

template <typename Product>
void gradients(const Gradients<typename Product::Real>& job, void* stream) {
  const dim3 grid(blocks_for(job.batch, kTile), static_cast<unsigned>(job.views),
                  blocks_for(job.hidden, kTile));
  launch({grid, kTileThreads, strip_shared_bytes<typename Product::Real>(job.hidden),
          static_cast<cudaStream_t>(stream)},
         similarity_gradients_kernel<Product>, job);
}

}  // namespace

template <>
void similarity_statistics(const Statistics<float>& job, Precision precision, void* stream) {
  by_precision(precision, [&](auto product) { statistics<decltype(product)>(job, stream); });
}

template <>
void similarity_statistics(const Statistics<double>& job, Precision, void* stream) {
  statistics<PlainProduct<double>>(job, stream);
}

template <>
void similarity_gradients(const Gradients<float>& job, Precision precision, void* stream) {
  by_precision(precision, [&](auto product) { gradients<decltype(product)>(job, stream); });
}

template <>
void similarity_gradients(const Gradients<double>& job, Precision, void* stream) {
  gradients<PlainProduct<double>>(job, stream);
}

template <typename Real>
void similarity_losses(const Losses<Real>& job, void* stream) {
  launch({1, kLossThreads, 0, static_cast<cudaStream_t>(stream)}, similarity_losses_kernel<Real>,
         job);
}

template <typename Real>
void normalise_rows(const View<Real>& x, const UnitRows<Real>& unit, void* stream) {
  launch({blocks_for(unit.batch, kNormaliseThreads / kWarpSize), kNormaliseThreads, 0,
          static_cast<cudaStream_t>(stream)},
         normalise_rows_kernel<Real>, x, unit);
}

template <typename Real>
void normalise_rows_backward(const UnitRows<Real>& unit, const Real* grad_unit, bool accumulate,
                             Real* grad_x, void* stream) {
  launch({blocks_for(unit.batch, kNormaliseThreads / kWarpSize), kNormaliseThreads, 0,
          static_cast<cudaStream_t>(stream)},
         normalise_rows_backward_kernel<Real>, unit, grad_unit, accumulate, grad_x);
}

template void similarity_losses(const Losses<float>&, void*);
template void similarity_losses(const Losses<double>&, void*);
template void normalise_rows(const View<float>&, const UnitRows<float>&, void*);
template void normalise_rows(const View<double>&, const UnitRows<double>&, void*);
template void normalise_rows_backward(const UnitRows<float>&, const float*, bool, float*, void*);
template void normalise_rows_backward(const UnitRows<double>&, const double*, bool, double*, void*);

}  // namespace mclrec::cuda
