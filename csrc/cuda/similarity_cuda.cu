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
void normalise_rows(const View<Real>& x, int batch, int hidden, Real* unit, Real* norm, Real eps,
                    void* stream) {
  launch({blocks_for(batch, kNormaliseThreads / kWarpSize), kNormaliseThreads, 0,
          static_cast<cudaStream_t>(stream)},
         normalise_rows_kernel<Real>, x, batch, hidden, unit, norm, eps);
}

template <typename Real>
void normalise_rows_backward(const Real* unit, const Real* norm, const Real* grad_unit, int batch,
                             int hidden, Real eps, bool accumulate, Real* grad_x, void* stream) {
  launch({blocks_for(batch, kNormaliseThreads / kWarpSize), kNormaliseThreads, 0,
          static_cast<cudaStream_t>(stream)},
         normalise_rows_backward_kernel<Real>, unit, norm, grad_unit, batch, hidden, eps,
         accumulate, grad_x);
}

template void similarity_losses(const Losses<float>&, void*);
template void similarity_losses(const Losses<double>&, void*);
template void normalise_rows(const View<float>&, int, int, float*, float*, float, void*);
template void normalise_rows(const View<double>&, int, int, double*, double*, double, void*);
template void normalise_rows_backward(const float*, const float*, const float*, int, int, float,
                                      bool, float*, void*);
template void normalise_rows_backward(const double*, const double*, const double*, int, int, double,
                                      bool, double*, void*);

}  // namespace mclrec::cuda
