// Launchers of item_cross_entropy_kernel.cuh.
#include "carver.h"
#include "dense_cuda.h"
#include "item_cross_entropy_kernel.cuh"

namespace mclrec::cuda {
namespace {

template <typename Product>
void run(const ItemCrossEntropyParams<typename Product::Real>& params, Context& context) {
  using Real = typename Product::Real;
  const auto stream = static_cast<cudaStream_t>(context.stream());
  const std::int64_t batch = params.rows, numbers = params.rows * params.hidden;
  const int hidden = static_cast<int>(params.hidden);
  const Splits splits = strip_splits(batch, params.classes);
  const auto strips = carve_from<Real>(context, [&](Carver<Real>& carver) {
    return ItemStrips<Real>{matrix_of(params.h, batch, hidden, hidden),
                            matrix_of(params.items, params.classes, hidden, hidden),
                            params.targets,
                            splits,
                            carver.take(splits.count * batch),
                            carver.take(splits.count * batch),
                            carver.take(batch),
                            carver.take(batch),
                            carver.take(batch),
                            carver.take(params.grad_h == nullptr ? 0 : splits.count * numbers)};
  });
  const std::size_t bytes = strip_shared_bytes<Real>(hidden);
  const unsigned row_tiles = blocks_for(batch, kTile), pieces = blocks_for(hidden, kTile);
  const unsigned count = static_cast<unsigned>(splits.count);
  launch({dim3(row_tiles, count), kTileThreads, bytes, stream}, item_statistics_kernel<Product>,
         strips);
  launch({1, kItemLossThreads, 0, stream}, item_loss_kernel<Real>, strips, params.loss);
  if (params.grad_h != nullptr) {
    launch({dim3(row_tiles, count, pieces), kTileThreads, bytes, stream},
           item_gradient_kernel<Product, false>, strips, strips.part_grad);
    Sums<Real> sums{};
    sums.jobs = 1;
    sums.job[0] = {strips.part_grad, numbers, numbers, {splits.count, nullptr}, 1, params.grad_h};
    sum_partials(sums, context.stream());
  }
  if (params.grad_items != nullptr) {
    launch({dim3(blocks_for(params.classes, kTile), 1, pieces), kTileThreads, bytes, stream},
           item_gradient_kernel<Product, true>, strips, params.grad_items);
  }
}

}  // namespace

template <>
void item_cross_entropy(const ItemCrossEntropyParams<float>& params, Context& context) {
  by_precision(context.precision(), [&](auto product) { run<decltype(product)>(params, context); });
}
template <>
void item_cross_entropy(const ItemCrossEntropyParams<double>& params, Context& context) {
  run<PlainProduct<double>>(params, context);
}

}  // namespace mclrec::cuda
