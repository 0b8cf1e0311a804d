// Launchers of dense_kernel.cuh.
#include <algorithm>

#include "dense_kernel.cuh"

namespace mclrec::cuda {
namespace {

template <typename Product>
void run_dense(const Dense<typename Product::Real>& job, void* stream) {
  using Real = typename Product::Real;
  const Launch shape({dim3(blocks_for(job.rows.capacity, kTile), blocks_for(job.columns, kTile),
                           static_cast<unsigned>(job.products)),
                      kTileThreads, dense_shared_bytes<Real>(), static_cast<cudaStream_t>(stream)});
  if (job.pre != nullptr) {
    launch(shape, dense_kernel<Product, true>, job);
  } else {
    launch(shape, dense_kernel<Product, false>, job);
  }
}

template <typename Product>
void run_input_gradient(const DenseInputGradient<typename Product::Real>& job, void* stream) {
  using Real = typename Product::Real;
  const Launch shape({dim3(blocks_for(job.rows.capacity, kTile), blocks_for(job.columns, kTile),
                           static_cast<unsigned>(job.products)),
                      kTileThreads, dense_shared_bytes<Real>(), static_cast<cudaStream_t>(stream)});
  if (job.pre != nullptr) {
    launch(shape, dense_input_gradient_kernel<Product, true>, job);
  } else {
    launch(shape, dense_input_gradient_kernel<Product, false>, job);
  }
}

template <typename Product>
void run_weight_gradients(const WeightGradients<typename Product::Real>& jobs, void* stream) {
  using Real = typename Product::Real;
  unsigned tiles = 1, splits = 1;
  for (int i = 0; i < jobs.jobs; ++i) {
    const WeightGradientJob<Real>& job = jobs.job[i];
    tiles = std::max(tiles, blocks_for(job.n, kTile) * blocks_for(job.k, kTile));
    splits = std::max(splits, blocks_for(job.rows.capacity, job.rows_per_split));
  }
  launch({dim3(tiles, splits, static_cast<unsigned>(jobs.jobs)), kTileThreads,
          dense_shared_bytes<Real>(), static_cast<cudaStream_t>(stream)},
         dense_weight_gradients_kernel<Product>, jobs);
}

}  // namespace

template <>
void dense(const Dense<float>& job, Precision precision, void* stream) {
  by_precision(precision, [&](auto product) { run_dense<decltype(product)>(job, stream); });
}
template <>
void dense(const Dense<double>& job, Precision, void* stream) {
  run_dense<PlainProduct<double>>(job, stream);
}

template <>
void dense_input_gradient(const DenseInputGradient<float>& job, Precision precision, void* stream) {
  by_precision(precision,
               [&](auto product) { run_input_gradient<decltype(product)>(job, stream); });
}
template <>
void dense_input_gradient(const DenseInputGradient<double>& job, Precision, void* stream) {
  run_input_gradient<PlainProduct<double>>(job, stream);
}

template <>
void dense_weight_gradients(const WeightGradients<float>& jobs, Precision precision, void* stream) {
  by_precision(precision,
               [&](auto product) { run_weight_gradients<decltype(product)>(jobs, stream); });
}
template <>
void dense_weight_gradients(const WeightGradients<double>& jobs, Precision, void* stream) {
  run_weight_gradients<PlainProduct<double>>(jobs, stream);
}

template <typename Real>
void sum_partials(const Sums<Real>& jobs, void* stream) {
  std::int64_t longest = 1;
  for (int i = 0; i < jobs.jobs; ++i) longest = std::max(longest, jobs.job[i].count);
  launch({dim3(blocks_for(longest, kSumThreads), static_cast<unsigned>(jobs.jobs)), kSumThreads, 0,
          static_cast<cudaStream_t>(stream)},
         sum_partials_kernel<Real>, jobs);
}
template void sum_partials(const Sums<float>&, void*);
template void sum_partials(const Sums<double>&, void*);

}  // namespace mclrec::cuda
