// The dense layers' matrix products with their epilogues: C = A W^T + b (and GELU), its input
// gradient and its weight gradients.
//
// For the encoder at T = 4 600 tokens, D = 64, F = 256: 8 M weights x tokens a layer forward is
// 0.45 GFLOP and 12 MB moved, 37 FLOP a byte: on sm_90 (67 TFLOP/s FP32, 3.35 TB/s) near the ridge
// of the FMA pipe, on tensor cores bound by memory (4 us). A 64 x 64 tile and a depth of 32 a
// stage: D = 64 is one tile wide, T / 64 = 72 row tiles times 1 to 4 column tiles fill 132 SMs
// about twice, and two stages of both operands take 36 864 bytes, so four to six fit an SM.
//
// Weight gradients sum over the tokens: each block takes a fixed range of them, and sum_partials
// adds the ranges in order. No atomics: same input, same bits.
#pragma once

#include "dense_cuda.h"
#include "tile.cuh"

namespace mclrec::cuda {

inline constexpr int kStageDepth = 32;
inline constexpr int kAlongStride = 36;   // rows of 32 along the depth
inline constexpr int kAcrossStride = 72;  // rows of 64 across it
inline constexpr int kStageTile = 64 * kAlongStride;
static_assert(kStageTile == kStageDepth * kAcrossStride, "both layouts fill the same space");

template <typename Real>
inline std::size_t dense_shared_bytes() {
  return 4 * kStageTile * sizeof(Real);
}

template <typename Real, bool kAlong>
using StageOperand = Operand<Real, kAlong, kAlong ? kAlongStride : kAcrossStride>;

__device__ __forceinline__ int live_rows(const RowCount& rows) {
  const int capacity = static_cast<int>(rows.capacity);
  if (rows.on_device == nullptr) return capacity;
  const int count = *rows.on_device;
  return count < 0 ? 0 : count < capacity ? count : capacity;
}

template <typename Real>
__device__ __forceinline__ Matrix<Real> device_matrix(const Real* data, int rows, int columns,
                                                      std::int64_t stride) {
  const bool wide =
      reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && stride % 4 == 0 && columns % 4 == 0;
  return {data, rows, columns, stride, wide};
}

__device__ __forceinline__ int at_most_tile(int left) {
  const int rounded = (left + 3) / 4 * 4;
  return rounded < kTile ? rounded : kTile;
}

// result = the sum of `stages` products of tiles in shared memory. copy(stage, a, b) starts copying
// both operands of a stage, depth(stage) is how deep it is, and look(stage, a) may read the tile of
// A while it is there; the next stage is copied meanwhile.
template <typename Product, bool kAAlong, bool kBAlong, typename Copy, typename Depth,
          typename Look>
__device__ __forceinline__ void multiply_stages(Fragment<typename Product::Real>& result,
                                                typename Product::Real* shared, int stages,
                                                Copy&& copy, Depth&& depth, Look&& look) {
  using Real = typename Product::Real;
  result.clear();
  if (stages > 0) copy(0, shared, shared + kStageTile);
  copy_commit();
  for (int stage = 0; stage < stages; ++stage) {
    Real* here = shared + stage % 2 * 2 * kStageTile;
    Real* next = shared + (stage + 1) % 2 * 2 * kStageTile;
    if (stage + 1 < stages) copy(stage + 1, next, next + kStageTile);
    copy_commit();
    copy_wait<1>();
    __syncthreads();
    look(stage, here);
    Product::multiply(result, StageOperand<Real, kAAlong>{here},
                      StageOperand<Real, kBAlong>{here + kStageTile}, depth(stage));
    __syncthreads();
  }
}

// Calls store(row, column, value) for what this thread holds of the matrix.
template <typename Real, typename Store>
__device__ __forceinline__ void for_each_element(const Fragment<Real>& result, int first_row,
                                                 int rows, int first_column, int columns,
                                                 Store&& store) {
#pragma unroll kUnroll < Real>
  for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
    for (int c = 0; c < 4; ++c) {
      const int row = first_row + fragment_row(c / 2);
      const int column = first_column + fragment_column(n, c);
      if (row < rows && column < columns) store(row, column, result.value[n][c]);
    }
  }
}

template <typename Real>
__device__ __forceinline__ Real gelu(Real x) {
  return Real(0.5) * x * (Real(1) + erf_of(x * Real(0.70710678118654752440)));
}

// d GELU / dx = Phi(x) + x phi(x).
template <typename Real>
__device__ __forceinline__ Real gelu_derivative(Real x) {
  const Real cumulative = Real(0.5) * (Real(1) + erf_of(x * Real(0.70710678118654752440)));
  const Real density = Real(0.39894228040143267794) * exp_of(Real(-0.5) * x * x);
  return cumulative + x * density;
}

// --- C = A W^T + bias ---------------------------------------------------------------------------

// Grid: (row tiles, column tiles, products).
template <typename Product, bool kGelu>
__global__ void __launch_bounds__(kTileThreads) dense_kernel(Dense<typename Product::Real> job) {
  using Real = typename Product::Real;
  MCLREC_DYNAMIC_SHARED(Real, shared);
  const int rows = live_rows(job.rows);
  const int first_row = static_cast<int>(blockIdx.x) * kTile;
  const int first_column = static_cast<int>(blockIdx.y) * kTile;
  if (first_row >= rows) return;
  const int z = static_cast<int>(blockIdx.z), listed = job.listed ? z : 0;
  const Real* bias = job.bias[listed] == nullptr ? nullptr : job.bias[listed] + z * job.bias_step;
  Real* c = job.c[listed] + z * job.c_step;
  const Matrix<Real> a = device_matrix(job.a + z * job.a_step, rows, job.depth, job.a_stride);
  const Matrix<Real> w =
      device_matrix(job.w[listed] + z * job.w_step, job.columns, job.depth, job.w_stride);

  Fragment<Real> result;
  multiply_stages<Product, true, true>(
      result, shared, (job.depth + kStageDepth - 1) / kStageDepth,
      [&](int stage, Real* a_tile, Real* w_tile) {
        const int k = stage * kStageDepth, depth = depth_of(job.depth, k, kStageDepth);
        load_tile<kTile, kStageDepth, kAlongStride>(a_tile, a, first_row, k, depth);
        load_tile<kTile, kStageDepth, kAlongStride>(w_tile, w, first_column, k, depth);
      },
      [&](int stage) { return depth_of(job.depth, stage * kStageDepth, kStageDepth); },
      [](int, const Real*) {});

  for_each_element(result, first_row, rows, first_column, job.columns,
                   [&](int row, int column, Real x) {
                     if (bias != nullptr) {
                       const Real times =
                           job.bias_scale == nullptr
                               ? Real(1)
                               : job.bias_scale[static_cast<std::int64_t>(row) * job.products + z];
                       x += times * bias[column];
                     }
                     if constexpr (kGelu) {
                       job.pre[static_cast<std::int64_t>(row) * job.columns + column] = x;
                       x = gelu(x);
                     }
                     c[row * job.c_stride + column] = x;
                   });
}

// --- C = sum of A_t W_t -------------------------------------------------------------------------

// Grid: (row tiles, column tiles, products).
template <typename Product, bool kGelu>
__global__ void __launch_bounds__(kTileThreads)
    dense_input_gradient_kernel(DenseInputGradient<typename Product::Real> job) {
  using Real = typename Product::Real;
  MCLREC_DYNAMIC_SHARED(Real, shared);
  const int rows = live_rows(job.rows);
  const int first_row = static_cast<int>(blockIdx.x) * kTile;
  const int first_column = static_cast<int>(blockIdx.y) * kTile;
  if (first_row >= rows) return;
  const int z = static_cast<int>(blockIdx.z);
  const int term_stages = (job.depth + kStageDepth - 1) / kStageDepth;

  Fragment<Real> result;
  multiply_stages<Product, true, false>(
      result, shared, job.terms * term_stages,
      [&](int stage, Real* a_tile, Real* w_tile) {
        const int term = stage / term_stages, k = stage % term_stages * kStageDepth;
        const Matrix<Real> a =
            device_matrix(job.a[term] + z * job.a_step, rows, job.depth, job.a_stride);
        const Matrix<Real> w =
            device_matrix(job.w[term] + z * job.w_step, job.depth, job.columns, job.w_stride);
        const int depth = depth_of(job.depth, k, kStageDepth);
        load_tile<kTile, kStageDepth, kAlongStride>(a_tile, a, first_row, k, depth);
        load_tile<kStageDepth, kTile, kAcrossStride>(w_tile, w, k, first_column,
                                                     at_most_tile(job.columns - first_column));
      },
      [&](int stage) {
        return depth_of(job.depth, stage % term_stages * kStageDepth, kStageDepth);
      },
      [](int, const Real*) {});

  Real* c = job.c + z * job.c_step;
  for_each_element(
      result, first_row, rows, first_column, job.columns, [&](int row, int column, Real x) {
        const std::int64_t index = static_cast<std::int64_t>(row) * job.columns + column;
        if (job.add != nullptr) x += job.add[index];
        if constexpr (kGelu) x *= gelu_derivative(job.pre[index]);
        c[row * job.c_stride + column] = x;
      });
}

// --- dW = dy^T x --------------------------------------------------------------------------------

// Grid: (tiles of the largest dW, splits, jobs); blocks without work leave at once.
template <typename Product>
__global__ void __launch_bounds__(kTileThreads)
    dense_weight_gradients_kernel(WeightGradients<typename Product::Real> jobs) {
  using Real = typename Product::Real;
  MCLREC_DYNAMIC_SHARED(Real, shared);
  const WeightGradientJob<Real>& job = jobs.job[blockIdx.z];
  const int column_tiles = (job.k + kTile - 1) / kTile;
  const int first_n = static_cast<int>(blockIdx.x) / column_tiles * kTile;
  const int first_k = static_cast<int>(blockIdx.x) % column_tiles * kTile;
  const int rows = live_rows(job.rows);
  const int begin = static_cast<int>(blockIdx.y) * job.rows_per_split;
  if (first_n >= job.n || begin >= rows) return;
  const int end = begin + job.rows_per_split < rows ? begin + job.rows_per_split : rows;
  const Matrix<Real> dy = device_matrix(job.dy, end, job.n, job.dy_stride);
  const Matrix<Real> x = device_matrix(job.x, end, job.k, job.x_stride);
  Real* partial = job.partial + blockIdx.y * job.partial_stride;

  const bool sums_bias = first_k == 0 && static_cast<int>(threadIdx.x) < kTile;
  Real bias = Real(0);
  Fragment<Real> result;
  multiply_stages<Product, false, false>(
      result, shared, (end - begin + kStageDepth - 1) / kStageDepth,
      [&](int stage, Real* dy_tile, Real* x_tile) {
        const int row = begin + stage * kStageDepth;
        load_tile<kStageDepth, kTile, kAcrossStride>(dy_tile, dy, row, first_n,
                                                     at_most_tile(job.n - first_n));
        load_tile<kStageDepth, kTile, kAcrossStride>(x_tile, x, row, first_k,
                                                     at_most_tile(job.k - first_k));
      },
      [&](int stage) { return depth_of(end - begin, stage * kStageDepth, kStageDepth); },
      [&](int stage, const Real* dy_tile) {
        if (!sums_bias) return;
        const int first = begin + stage * kStageDepth;
        for (int r = 0; r < kStageDepth && first + r < end; ++r) {
          const std::int64_t at = static_cast<std::int64_t>(first + r) * job.bias_scale_stride;
          const Real times = job.bias_scale == nullptr ? Real(1) : job.bias_scale[at];
          bias += times * dy_tile[r * kAcrossStride + threadIdx.x];
        }
      });

  for_each_element(result, first_n, job.n, first_k, job.k, [&](int n, int k, Real value) {
    partial[static_cast<std::int64_t>(n) * job.k + k] = value;
  });
  const int n = first_n + static_cast<int>(threadIdx.x);
  if (sums_bias && n < job.n) partial[static_cast<std::int64_t>(job.n) * job.k + n] = bias;
}

// --- partial sums -------------------------------------------------------------------------------

inline constexpr int kSumThreads = 128;

// Grid: (blocks of kSumThreads numbers of the longest job, jobs).
template <typename Real>
__global__ void __launch_bounds__(kSumThreads) sum_partials_kernel(Sums<Real> jobs) {
  const SumJob<Real>& job = jobs.job[blockIdx.y];
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
  if (i >= job.count) return;
  const int splits = (live_rows(job.rows) + job.rows_per_split - 1) / job.rows_per_split;
  Real sum = Real(0);
  for (int split = 0; split < splits; ++split) sum += job.partial[split * job.stride + i];
  job.out[i] = sum;
}

}  // namespace mclrec::cuda
