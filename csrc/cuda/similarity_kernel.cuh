// Kernels of the contrastive losses (Qin et al. 2023, Eq. 8 and 11-13) over strips of X Y^T.
//
// Cost of one contrast of four views, B = 256, D = 64 (ten strips): forward 2 * 10 B^2 D = 84 MFLOP
// and 0.6 MB read from L2 a strip; backward twice the products, 168 MFLOP. Nothing of size B x B is
// stored. At B = 256 the bound is latency (40 blocks, four tiles deep, about 5 us); from B = 4096
// on it is the FMA pipe (or the tensor cores), since a tile does 64 FMA for each number it loads.
// Tiles of 64 rows because B = 256 then still gives 40 blocks; see tile.cuh and strip.cuh.
//
// No atomics: a row's statistics belong to four lanes, a row's gradient to one block; sums over
// rows are taken by one block in a fixed order. Same input, same bits.
#pragma once

#include "similarity_cuda.h"
#include "strip.cuh"

namespace mclrec::cuda {

template <typename Real>
__device__ __forceinline__ Matrix<Real> matrix_of_view(const View<Real>& view, int batch,
                                                       int hidden) {
  const bool wide = reinterpret_cast<std::uintptr_t>(view.rows) % 16 == 0 && view.stride % 4 == 0 &&
                    hidden % 4 == 0;
  return {view.rows, batch, hidden, view.stride, wide};
}

// --- forward ------------------------------------------------------------------------------------

// Running statistics of one row, over the columns this thread holds.
template <typename Real>
struct RowStatistics {
  LogSumExp<Real> lse;
  Real negative_max = -infinity<Real>();
  Real negative_sum = Real(0);
  int negative = -1;

  __device__ __forceinline__ void add_negative(Real s, int column) {
    negative_sum += s;
    if (s > negative_max) {
      negative_max = s;
      negative = column;
    }
  }

  // Over the four lanes that share the row; of equal maxima the lowest column is kept.
  __device__ __forceinline__ void merge_lanes() {
    lse.merge_lanes();
#pragma unroll kUnroll < Real>
    for (int step = 1; step < 4; step *= 2) {
      negative_sum += __shfl_xor_sync(kFullWarp, negative_sum, step);
      const Real other_max = __shfl_xor_sync(kFullWarp, negative_max, step);
      const int other = __shfl_xor_sync(kFullWarp, negative, step);
      const bool earlier = static_cast<unsigned>(other) < static_cast<unsigned>(negative);
      if (other_max > negative_max || (other_max == negative_max && earlier)) {
        negative_max = other_max;
        negative = other;
      }
    }
  }
};

template <typename Product>
__device__ __forceinline__ void add_tile(RowStatistics<typename Product::Real> (&statistics)[2],
                                         const Fragment<typename Product::Real>& product,
                                         int first_row, int first_column, int batch,
                                         const StripJob<typename Product::Real>& job) {
  using Real = typename Product::Real;
#pragma unroll kUnroll < Real>
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + fragment_row(half);
    RowStatistics<Real>& row_statistics = statistics[half];
    Real largest = -infinity<Real>();
#pragma unroll kUnroll < Real>
    for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
      for (int e = 0; e < 2; ++e) {
        const int column = first_column + fragment_column(n, e);
        const Real s = job.scale * product.value[n][2 * half + e];
        if (column < batch && !(job.self && column == row) && s > largest) largest = s;
      }
    }
    row_statistics.lse.raise(largest);
#pragma unroll kUnroll < Real>
    for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
      for (int e = 0; e < 2; ++e) {
        const int column = first_column + fragment_column(n, e);
        const Real s = job.scale * product.value[n][2 * half + e];
        if (column >= batch || (job.self && column == row)) continue;
        row_statistics.lse.add(s);
        if (column != row) {
          row_statistics.add_negative(s, column);
        } else if (row < batch) {
          job.out.positive[row] = s;
        }
      }
    }
  }
}

// Grid: (row tiles, strips).
template <typename Product>
__global__ void __launch_bounds__(kTileThreads)
    similarity_statistics_kernel(Statistics<typename Product::Real> jobs) {
  using Real = typename Product::Real;
  MCLREC_DYNAMIC_SHARED(Real, shared);
  const StripJob<Real>& job = jobs.strip[blockIdx.y];
  const int first_row = static_cast<int>(blockIdx.x) * kTile;
  const Matrix<Real> x = matrix_of_view(job.x, jobs.batch, jobs.hidden);
  const Matrix<Real> y = matrix_of_view(job.y, jobs.batch, jobs.hidden);

  RowStatistics<Real> statistics[2];
  Strip<Product> strip(shared, x, first_row, y, last_piece(x));
  strip.walk(0, (jobs.batch + kTile - 1) / kTile,
             [&](const Fragment<Real>& product, int first_column, const StripRows<Real>&) {
               add_tile<Product>(statistics, product, first_row, first_column, jobs.batch, job);
             });

#pragma unroll kUnroll < Real>
  for (int half = 0; half < 2; ++half) {
    RowStatistics<Real>& row_statistics = statistics[half];
    row_statistics.merge_lanes();
    const int row = first_row + fragment_row(half);
    if (row >= jobs.batch || lane_index() % 4 != 0) continue;
    job.out.max[row] = row_statistics.lse.max;
    job.out.sum[row] = row_statistics.lse.sum;
    if (job.out.negative_max == nullptr) continue;
    job.out.negative_max[row] = row_statistics.negative_max;
    job.out.negative_sum[row] = row_statistics.negative_sum;
    job.out.negative[row] = row_statistics.negative;
  }
}

// The share of one row in its pair's regulariser, relu(p - m) + max(p, m), and its derivatives with
// respect to p and to the largest negative of either strip; at a tie each side gets half.
template <typename Real>
struct HingeRow {
  Real value, d_positive, d_self, d_cross;

  __device__ __forceinline__ HingeRow(Real p, Real self_max, Real cross_max) {
    const Real m = self_max > cross_max ? self_max : cross_max;
    const Real above = p > m ? Real(1) : Real(0);
    const Real larger = p > m ? Real(1) : p == m ? Real(0.5) : Real(0);
    value = above * (p - m) + (p > m ? p : m);
    if (!(p > m) && !(p <= m)) value = p + m;  // NaN
    d_positive = above + larger;
    const Real d_m = Real(1) - larger - above;
    const Real self_share = self_max > cross_max    ? Real(1)
                            : self_max == cross_max ? Real(0.5)
                                                    : Real(0);
    d_self = d_m * self_share;
    d_cross = d_m * (Real(1) - self_share);
  }
};

inline constexpr int kLossThreads = 256;

// Sum over the block in a fixed order; valid in thread 0.
__device__ __forceinline__ double block_sum(double x, double* shared) {
  shared[threadIdx.x] = x;
  __syncthreads();
  for (int step = kLossThreads / 2; step > 0; step /= 2) {
    if (static_cast<int>(threadIdx.x) < step) shared[threadIdx.x] += shared[threadIdx.x + step];
    __syncthreads();
  }
  const double total = shared[0];
  __syncthreads();
  return total;
}

// Adds one pair's rows to the thread's sums and leaves what the gradient needs.
template <typename Real>
__device__ __forceinline__ void add_pair(const PairJob<Real>& job, int batch, double* contrast,
                                         double* regulariser) {
  const double rows = 2.0 * batch;
  for (int i = static_cast<int>(threadIdx.x); i < batch; i += kLossThreads) {
    const Real p = job.ab.positive[i];
    if (batch == 1) {  // no negatives: 0, or NaN where the positive is not finite
      *contrast += 0.0 * static_cast<double>(p);
      if (job.regulariser >= 0) *regulariser += 0.0 * static_cast<double>(p);
    }
    Real d_positive = Real(0);
    for (int side = 0; side < 2; ++side) {
      const StripStatistics<Real>& self = side == 0 ? job.aa : job.bb;
      const StripStatistics<Real>& cross = side == 0 ? job.ab : job.ba;
      const Real top = self.max[i] > cross.max[i] ? self.max[i] : cross.max[i];
      const Real of_self = exp_of(self.max[i] - top), of_cross = exp_of(cross.max[i] - top);
      const Real sum = self.sum[i] * of_self + cross.sum[i] * of_cross;
      self.weight[i] = (job.joins[side] ? self.weight[i] : Real(0)) + of_self / sum;
      cross.weight[i] = of_cross / sum;
      if (batch > 1) {
        const double lse = static_cast<double>(top) + log(static_cast<double>(sum));
        *contrast += (lse - static_cast<double>(p)) / rows;
      }
      if (job.regulariser < 0) continue;
      const HingeRow<Real> hinge(p, self.negative_max[i], cross.negative_max[i]);
      const Real mean = Real(1) / static_cast<Real>(rows);
      d_positive += hinge.d_positive * mean;
      Real* d_self = job.d_self[side] + i;
      *d_self = (job.joins[side] ? *d_self : Real(0)) + hinge.d_self * mean;
      job.d_cross[side][i] = hinge.d_cross * mean;
      if (batch == 1) continue;
      const double negatives =
          static_cast<double>(self.negative_sum[i]) + static_cast<double>(cross.negative_sum[i]);
      *regulariser += static_cast<double>(hinge.value) / rows - negatives / (rows * (rows - 2.0));
    }
    if (job.regulariser >= 0) job.d_positive[i] = d_positive;
  }
}

// One block: B is small beside the B x B products before it.
template <typename Real>
__global__ void __launch_bounds__(kLossThreads) similarity_losses_kernel(Losses<Real> jobs) {
  MCLREC_SHARED(double, shared, [kLossThreads]);
  double loss[kMaxLosses] = {0.0, 0.0, 0.0};
#pragma unroll kUnroll < Real>
  for (int pair = 0; pair < kMaxPairs; ++pair) {
    if (pair >= jobs.pairs) continue;
    double contrast = 0.0, regulariser = 0.0;
    add_pair(jobs.pair[pair], jobs.batch, &contrast, &regulariser);
#pragma unroll kUnroll < Real>
    for (int i = 0; i < kMaxLosses; ++i) {
      if (i == jobs.pair[pair].contrast) loss[i] += contrast;
      if (i == jobs.pair[pair].regulariser) loss[i] += regulariser;
    }
  }
#pragma unroll kUnroll < Real>
  for (int i = 0; i < kMaxLosses; ++i) {
    if (i >= jobs.losses) continue;
    const double total = block_sum(loss[i], shared);
    if (threadIdx.x == 0) *jobs.loss[i] = static_cast<Real>(total);
  }
}

// --- backward -----------------------------------------------------------------------------------

// d loss / d s_ij, s = scale * x_i . y_j. With N = 2B rows and P_i the softmax of row i:
//   con: (P_i(s_ij) + P_j(s_ij) - 2 [positive]) / N
//   reg: the hinges' derivatives at the positive and at each row's largest negative, and
//        -2 / (N (N - 2)) at every negative (s_ij is a negative of row i and of row j)
template <typename Real>
struct TermWeights {
  const GradientTerm<Real>& term;
  int batch;
  Real contrast, regulariser, negative;  // upstream gradients times the constants above

  __device__ __forceinline__ TermWeights(const GradientTerm<Real>& term_, int batch_,
                                         const Real* const* upstream)
      : term(term_), batch(batch_) {
    const Real rows = Real(2) * static_cast<Real>(batch);
    const bool alone = batch == 1;
    contrast = alone ? Real(0) : *upstream[term.contrast] / rows;
    regulariser = alone || term.regulariser < 0 ? Real(0) : *upstream[term.regulariser];
    negative = alone ? Real(0) : regulariser * Real(-2 * term.pairs) / (rows * (rows - Real(2)));
  }

  __device__ __forceinline__ Real operator()(Real s, int row, int column) const {
    const bool diagonal = row == column;
    if (term.self && diagonal) return Real(0);
    Real con = term.weight_x[row] * exp_of(s - term.max_x[row]) +
               term.weight_y[column] * exp_of(s - term.max_y[column]);
    if (diagonal) con -= Real(2);
    Real reg = diagonal ? Real(0) : negative;
    if (term.regulariser >= 0) {
      if (diagonal) {
        reg = regulariser * term.d_positive[row];
      } else {
        if (term.negative_x[row] == column) reg += regulariser * term.d_negative_x[row];
        if (term.negative_y[column] == row) reg += regulariser * term.d_negative_y[column];
      }
    }
    return term.scale * (contrast * con + reg);
  }
};

// Grid: (row tiles, views, pieces of 64 of the gradient's columns). The products are recomputed for
// every piece: once up to D = 64.
template <typename Product>
__global__ void __launch_bounds__(kTileThreads)
    similarity_gradients_kernel(Gradients<typename Product::Real> jobs) {
  using Real = typename Product::Real;
  MCLREC_DYNAMIC_SHARED(Real, shared);
  const GradientJob<Real>& job = jobs.view[blockIdx.y];
  const int first_row = static_cast<int>(blockIdx.x) * kTile;
  const int piece = static_cast<int>(blockIdx.z);
  const int tiles = (jobs.batch + kTile - 1) / kTile;
  const Matrix<Real> x = matrix_of_view(job.x, jobs.batch, jobs.hidden);

  Fragment<Real> gradient;
  gradient.clear();
  for (int t = 0; t < job.terms; ++t) {
    const GradientTerm<Real>& term = job.term[t];
    const TermWeights<Real> weights(term, jobs.batch, jobs.upstream);
    const Matrix<Real> y = matrix_of_view(term.y, jobs.batch, jobs.hidden);
    Strip<Product> strip(shared, x, first_row, y, piece);
    strip.walk(0, tiles,
               [&](Fragment<Real>& product, int first_column, const StripRows<Real>& y_tile) {
#pragma unroll kUnroll < Real>
                 for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
                   for (int c = 0; c < 4; ++c) {
                     const int row = first_row + fragment_row(c / 2);
                     const int column = first_column + fragment_column(n, c);
                     Real& s = product.value[n][c];
                     const bool inside = row < jobs.batch && column < jobs.batch;
                     s = inside ? weights(term.scale * s, row, column) : Real(0);
                   }
                 }
                 add_product<Product>(gradient, product, y_tile);
               });
  }

#pragma unroll kUnroll < Real>
  for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
    for (int c = 0; c < 4; ++c) {
      const int row = first_row + fragment_row(c / 2);
      const int column = piece * kTile + fragment_column(n, c);
      if (row >= jobs.batch || column >= jobs.hidden) continue;
      job.grad_x[static_cast<std::int64_t>(row) * jobs.hidden + column] = gradient.value[n][c];
    }
  }
}

// --- rows of unit length ------------------------------------------------------------------------

inline constexpr int kNormaliseThreads = 128;  // a warp a row

template <typename Real>
__global__ void __launch_bounds__(kNormaliseThreads)
    normalise_rows_kernel(View<Real> x, UnitRows<Real> unit) {
  const int row = static_cast<int>(blockIdx.x) * (kNormaliseThreads / kWarpSize) + warp_index();
  if (row >= unit.batch) return;
  const Real* from = x.rows + row * x.stride;
  Real* to = unit.rows + static_cast<std::int64_t>(row) * unit.hidden;
  Real square = Real(0);
  for (int d = lane_index(); d < unit.hidden; d += kWarpSize) {
    square = fma_of(from[d], from[d], square);
  }
  const Real length = sqrt_of(group_sum<kWarpSize>(square));
  const Real divisor = length > unit.eps ? length : length == length ? unit.eps : length;
  for (int d = lane_index(); d < unit.hidden; d += kWarpSize) to[d] = from[d] / divisor;
  if (lane_index() == 0) unit.norm[row] = length;
}

// u = x / |x|: dx = (du - u (u . du)) / |x|; a row shorter than eps was divided by eps.
template <typename Real>
__global__ void __launch_bounds__(kNormaliseThreads)
    normalise_rows_backward_kernel(UnitRows<Real> unit, const Real* grad_unit, bool accumulate,
                                   Real* grad_x) {
  const int row = static_cast<int>(blockIdx.x) * (kNormaliseThreads / kWarpSize) + warp_index();
  if (row >= unit.batch) return;
  const std::int64_t start = static_cast<std::int64_t>(row) * unit.hidden;
  const Real* u = unit.rows + start;
  Real dot = Real(0);
  for (int d = lane_index(); d < unit.hidden; d += kWarpSize) {
    dot = fma_of(u[d], grad_unit[start + d], dot);
  }
  dot = group_sum<kWarpSize>(dot);
  const Real length = unit.norm[row];
  const bool shorter = length <= unit.eps;
  for (int d = lane_index(); d < unit.hidden; d += kWarpSize) {
    const Real along = shorter ? Real(0) : u[d] * dot;
    const Real gradient = (grad_unit[start + d] - along) / (shorter ? unit.eps : length);
    grad_x[start + d] = accumulate ? grad_x[start + d] + gradient : gradient;
  }
}

}  // namespace mclrec::cuda
