// Launchers of item_cross_entropy_kernel.cuh.
#include "dense_cuda.h"
#include "item_cross_entropy_kernel.cuh"

namespace mclrec::cuda {
namespace {

std::int64_t rounded(std::int64_t count) { return (count + 3) / 4 * 4; }

template <typename Product>
void run(const ItemCrossEntropy<typename Product::Real>& job, void* stream_pointer) {
  using Real = typename Product::Real;
  const auto stream = static_cast<cudaStream_t>(stream_pointer);
  const Splits splits = strip_splits(job.batch, job.classes);
  const std::int64_t parts = splits.count * rounded(job.batch);
  Real* part_max = job.scratch;
  Real* part_sum = part_max + parts;
  Real* target_logit = part_sum + parts;
  Real* row_max = target_logit + rounded(job.batch);
  Real* row_scale = row_max + rounded(job.batch);
  const ItemStrips<Real> strips{matrix_of(job.h, job.batch, job.depth, job.depth),
                                matrix_of(job.items, job.classes, job.depth, job.depth),
                                job.targets,
                                splits,
                                part_max,
                                part_sum,
                                target_logit,
                                row_max,
                                row_scale,
                                row_scale + rounded(job.batch)};
  const std::size_t bytes = strip_shared_bytes<Real>(job.depth);
  const unsigned row_tiles = blocks_for(job.batch, kTile), pieces = blocks_for(job.depth, kTile);
  const unsigned count = static_cast<unsigned>(splits.count);
  launch({dim3(row_tiles, count), kTileThreads, bytes, stream}, item_statistics_kernel<Product>,
         strips);
  launch({1, kItemLossThreads, 0, stream}, item_loss_kernel<Real>, strips, job.loss);
  if (job.grad_h != nullptr) {
    launch({dim3(row_tiles, count, pieces), kTileThreads, bytes, stream},
           item_gradient_kernel<Product, false>, strips, strips.part_grad);
    Sums<Real> sums{};
    const std::int64_t numbers = job.batch * job.depth;
    sums.jobs = 1;
    sums.job[0] = {strips.part_grad, numbers, numbers, {splits.count, nullptr}, 1, job.grad_h};
    sum_partials(sums, stream_pointer);
  }
  if (job.grad_items != nullptr) {
    launch({dim3(blocks_for(job.classes, kTile), 1, pieces), kTileThreads, bytes, stream},
           item_gradient_kernel<Product, true>, strips, job.grad_items);
  }
}

}  // namespace

std::int64_t item_cross_entropy_scratch(std::int64_t batch, std::int64_t classes, int depth,
                                        bool grad_h) {
  const Splits splits = strip_splits(batch, classes);
  const std::int64_t grads = grad_h ? splits.count * batch * depth : 0;
  return (2 * splits.count + 3) * rounded(batch) + grads;
}

template <>
void item_cross_entropy(const ItemCrossEntropy<float>& job, void* stream) {
  by_precision(job.precision, [&](auto product) { run<decltype(product)>(job, stream); });
}
template <>
void item_cross_entropy(const ItemCrossEntropy<double>& job, void* stream) {
  run<PlainProduct<double>>(job, stream);
}

}  // namespace mclrec::cuda
