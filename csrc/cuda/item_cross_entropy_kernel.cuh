// Cross-entropy over the whole catalogue (Qin et al. 2023, Eq. 5) in strips of logits that are
// never stored: the log-sum-exp of each row first, then both gradients from recomputed logits.
//
// 10 B V D FLOP (2 for the loss, 4 a gradient: recomputed product and accumulation). At B = 256,
// V = 12 102, D = 64: 2.0 GFLOP and 3.1 MB of items, read from L2 by 4 row tiles: bound by the FMA
// pipe (about 45 us at 65 % of 67 TFLOP/s on sm_90), on tensor cores by latency and L2 (about 10
// us). Row tiles alone would give 4 blocks, so a row's strip is split over the catalogue until
// there are about two blocks for each of 132 SMs; the parts are put together in order, so the
// result does not depend on the device. Storing the logits instead would be 12 MB here and 256 MB
// at V = 250 000.
#pragma once

#include "item_cross_entropy_cuda.h"
#include "strip.cuh"

namespace mclrec::cuda {

// How the strips over `tiles` tiles of columns are split among blocks.
struct Splits {
  int count;  // parts
  int tiles;  // tiles of each
};

inline Splits strip_splits(std::int64_t rows, std::int64_t columns) {
#ifdef MCLREC_CUDA_EMULATION
  constexpr std::int64_t kBlocks = 4;  // small shapes must meet parts of several tiles
#else
  constexpr std::int64_t kBlocks = 264;
#endif
  const std::int64_t row_tiles = blocks_for(rows, kTile), tiles = blocks_for(columns, kTile);
  std::int64_t parts = (kBlocks + row_tiles - 1) / row_tiles;
  parts = parts < tiles ? parts : tiles;
  const std::int64_t each = (tiles + parts - 1) / parts;
  return {static_cast<int>((tiles + each - 1) / each), static_cast<int>(each)};
}

// Everything a kernel needs; the scratch laid out.
template <typename Real>
struct ItemStrips {
  Matrix<Real> h;      // [B, D]
  Matrix<Real> items;  // [V, D]
  const std::int64_t* targets;
  Splits splits;
  Real* part_max;      // [splits, B]
  Real* part_sum;      // [splits, B]
  Real* target_logit;  // [B]
  Real* row_max;       // [B] largest logit
  Real* row_scale;     // [B] 1 / (B sum of exp(logit - row_max))
  Real* part_grad;     // [splits, B, D]
};

// Maximum and sum of exponentials of each row over one part of the catalogue.
// Grid: (row tiles, splits).
template <typename Product>
__global__ void __launch_bounds__(kTileThreads)
    item_statistics_kernel(ItemStrips<typename Product::Real> job) {
  using Real = typename Product::Real;
  MCLREC_DYNAMIC_SHARED(Real, shared);
  const int first_row = static_cast<int>(blockIdx.x) * kTile, batch = job.h.rows;
  const int tiles = (job.items.rows + kTile - 1) / kTile;
  const int first = static_cast<int>(blockIdx.y) * job.splits.tiles;
  const int end = first + job.splits.tiles < tiles ? first + job.splits.tiles : tiles;
  std::int64_t target[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + fragment_row(half);
    target[half] = row < batch ? job.targets[row] : -1;
  }
  LogSumExp<Real> lse[2];
  Strip<Product> strip(shared, job.h, first_row, job.items, last_piece(job.h));
  strip.walk(first, end,
             [&](const Fragment<Real>& product, int first_column, const StripRows<Real>&) {
#pragma unroll
               for (int half = 0; half < 2; ++half) {
                 Real largest = -infinity<Real>();
#pragma unroll kUnroll < Real>
                 for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
                   for (int e = 0; e < 2; ++e) {
                     const Real s = product.value[n][2 * half + e];
                     if (first_column + fragment_column(n, e) < job.items.rows && s > largest)
                       largest = s;
                   }
                 }
                 lse[half].raise(largest);
#pragma unroll kUnroll < Real>
                 for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
                   for (int e = 0; e < 2; ++e) {
                     const int item = first_column + fragment_column(n, e);
                     if (item >= job.items.rows) continue;
                     const Real s = product.value[n][2 * half + e];
                     lse[half].add(s);
                     if (item == target[half]) job.target_logit[first_row + fragment_row(half)] = s;
                   }
                 }
               }
             });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    lse[half].merge_lanes();
    const int row = first_row + fragment_row(half);
    if (row >= batch || lane_index() % 4 != 0) continue;
    const std::int64_t at = static_cast<std::int64_t>(blockIdx.y) * batch + row;
    job.part_max[at] = lse[half].max;
    job.part_sum[at] = lse[half].sum;
  }
}

inline constexpr int kItemLossThreads = 256;

// One block: the parts of each row in order, then the mean over the rows in a fixed order.
template <typename Real>
__global__ void __launch_bounds__(kItemLossThreads)
    item_loss_kernel(ItemStrips<Real> job, Real* loss) {
  MCLREC_SHARED(double, shared, [kItemLossThreads]);
  const int batch = job.h.rows;
  double sum = 0.0;
  for (int row = static_cast<int>(threadIdx.x); row < batch; row += kItemLossThreads) {
    LogSumExp<Real> lse;
    for (int part = 0; part < job.splits.count; ++part) {
      const std::int64_t at = static_cast<std::int64_t>(part) * batch + row;
      lse.merge(job.part_max[at], job.part_sum[at]);
    }
    const std::int64_t target = job.targets[row];
    const bool known = target >= 0 && target < job.items.rows;
    job.row_max[row] = lse.max;
    job.row_scale[row] = Real(1) / (lse.sum * static_cast<Real>(batch));
    const double value = static_cast<double>(lse.max) + log(static_cast<double>(lse.sum));
    const Real logit = known ? job.target_logit[row] : infinity<Real>() - infinity<Real>();
    sum += value - static_cast<double>(logit);
  }
  shared[threadIdx.x] = sum;
  __syncthreads();
  for (int step = kItemLossThreads / 2; step > 0; step /= 2) {
    if (static_cast<int>(threadIdx.x) < step) shared[threadIdx.x] += shared[threadIdx.x + step];
    __syncthreads();
  }
  if (threadIdx.x == 0) *loss = static_cast<Real>(shared[0] / static_cast<double>(batch));
}

// Gradients: with p_iv the softmax of row i, d loss / d s_iv = (p_iv - [v = target_i]) / B. For h
// the rows are samples and the columns items, split into parts; for the items the other way round.
// Grid: (row tiles, splits or 1, pieces of 64 of the gradient's columns).
template <typename Product, bool kOfItems>
__global__ void __launch_bounds__(kTileThreads)
    item_gradient_kernel(ItemStrips<typename Product::Real> job, typename Product::Real* grad) {
  using Real = typename Product::Real;
  MCLREC_DYNAMIC_SHARED(Real, shared);
  const Matrix<Real>& x = kOfItems ? job.items : job.h;
  const Matrix<Real>& y = kOfItems ? job.h : job.items;
  const int first_row = static_cast<int>(blockIdx.x) * kTile;
  const int piece = static_cast<int>(blockIdx.z);
  const int tiles = (y.rows + kTile - 1) / kTile;
  const int each = kOfItems ? tiles : job.splits.tiles;
  const int first = static_cast<int>(blockIdx.y) * each;
  const int end = first + each < tiles ? first + each : tiles;
  const Real mean = Real(1) / static_cast<Real>(job.h.rows);

  Fragment<Real> gradient;
  gradient.clear();
  Strip<Product> strip(shared, x, first_row, y, piece);
  strip.walk(first, end,
             [&](Fragment<Real>& product, int first_column, const StripRows<Real>& y_tile) {
#pragma unroll kUnroll < Real>
               for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
                 for (int c = 0; c < 4; ++c) {
                   const int row = first_row + fragment_row(c / 2);
                   const int column = first_column + fragment_column(n, c);
                   Real& s = product.value[n][c];
                   if (row >= x.rows || column >= y.rows) {
                     s = Real(0);
                     continue;
                   }
                   const int sample = kOfItems ? column : row, item = kOfItems ? row : column;
                   const Real hit = job.targets[sample] == item ? mean : Real(0);
                   s = exp_of(s - job.row_max[sample]) * job.row_scale[sample] - hit;
                 }
               }
               add_product<Product>(gradient, product, y_tile);
             });

  Real* out = grad + static_cast<std::int64_t>(blockIdx.y) * x.rows * x.columns;
#pragma unroll kUnroll < Real>
  for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
    for (int c = 0; c < 4; ++c) {
      const int row = first_row + fragment_row(c / 2);
      const int column = piece * kTile + fragment_column(n, c);
      if (row >= x.rows || column >= x.columns) continue;
      out[static_cast<std::int64_t>(row) * x.columns + column] = gradient.value[n][c];
    }
  }
}

}  // namespace mclrec::cuda
