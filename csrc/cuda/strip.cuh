// A strip: the products of 64 rows of one matrix with one tile of 64 rows of another after the
// next, X Y^T, never stored. A block walks the strip and hands each finished tile to a visitor
// (softmax statistics, ranking counts, gradient weights). The next tile is copied to shared memory
// while this one is multiplied.
//
// Shared memory: one tile of X and two of Y (52 224 bytes in float) up to a depth of 64; beyond,
// two of each, because X is then read piece by piece again for every tile of Y.
#pragma once

#include "tile.cuh"

namespace mclrec::cuda {

inline constexpr int kStripTile = kTile * kStripStride;  // numbers of one tile in shared memory

template <typename Real>
using StripOperand = Operand<Real, true, kStripStride>;  // at(k, i): depth k of row i

// The same tile read the other way: at(j, column) with j its row.
template <typename Real>
using StripRows = Operand<Real, false, kStripStride>;

template <typename Real>
inline std::size_t strip_shared_bytes(std::int64_t depth) {
  return (depth <= kTile ? 3u : 4u) * kStripTile * sizeof(Real);
}

// A block's walk along a strip: stages of copying a piece of 64 of the depth while the one before
// is multiplied. The product of a tile is summed over the pieces in ascending order, always, so
// that forward and backward see the same bits.
template <typename Product>
class Strip {
 public:
  using Real = typename Product::Real;

  // `shared` holds strip_shared_bytes(columns). `kept_piece`: which piece of Y the visitor wants to
  // find in shared memory (the last one costs nothing, another is copied again).
  __device__ __forceinline__ Strip(Real* shared, const Matrix<Real>& x, int first_row,
                                   const Matrix<Real>& y, int kept_piece)
      : shared_(shared),
        x_(x),
        y_(y),
        first_row_(first_row),
        pieces_((x.columns + kTile - 1) / kTile),
        kept_piece_(kept_piece),
        tile_stages_(kept_piece == pieces_ - 1 ? pieces_ : pieces_ + 1) {}

  // visit(product, first_column, y_tile) for the tiles first_tile .. end_tile - 1 of Y, by all
  // threads of the block. y_tile is the kept piece of the tile, free until the visitor returns.
  template <typename Visit>
  __device__ __forceinline__ void walk(int first_tile, int end_tile, Visit&& visit) {
    const int stages = (end_tile - first_tile) * tile_stages_;
    Fragment<Real> product;
    product.clear();
    if (stages > 0) copy_stage(first_tile, 0);
    copy_commit();
    for (int stage = 0; stage < stages; ++stage) {
      if (stage + 1 < stages) copy_stage(first_tile, stage + 1);
      copy_commit();
      copy_wait<1>();
      __syncthreads();
      const int step = stage % tile_stages_;
      const Real* y_tile = y_buffer(stage);
      if (step < pieces_) {
        Product::multiply(product, StripOperand<Real>{x_buffer(stage)}, StripOperand<Real>{y_tile},
                          depth_of(x_.columns, step * kTile, kTile));
      }
      if (step == tile_stages_ - 1) {
        visit(product, (first_tile + stage / tile_stages_) * kTile, StripRows<Real>{y_tile});
        product.clear();
      }
      __syncthreads();
    }
  }

 private:
  __device__ __forceinline__ Real* y_buffer(int stage) const {
    return shared_ + (stage % 2) * kStripTile;
  }
  __device__ __forceinline__ Real* x_buffer(int stage) const {
    return shared_ + (pieces_ == 1 ? 2 : 2 + stage % 2) * kStripTile;
  }
  __device__ __forceinline__ void copy_stage(int first_tile, int stage) {
    const int step = stage % tile_stages_, piece = step < pieces_ ? step : kept_piece_;
    const int column = piece * kTile, columns = depth_of(x_.columns, column, kTile);
    load_tile<kTile, kTile, kStripStride>(
        y_buffer(stage), y_, (first_tile + stage / tile_stages_) * kTile, column, columns);
    if (step < pieces_ && (pieces_ > 1 || stage == 0)) {
      load_tile<kTile, kTile, kStripStride>(x_buffer(stage), x_, first_row_, column, columns);
    }
  }

  Real* shared_;
  const Matrix<Real>& x_;
  const Matrix<Real>& y_;
  int first_row_;
  int pieces_;
  int kept_piece_;
  int tile_stages_;
};

// The piece a walk keeps when its visitor looks at products only.
template <typename Real>
__device__ __forceinline__ int last_piece(const Matrix<Real>& x) {
  return (x.columns + kTile - 1) / kTile - 1;
}

// --- log-sum-exp, one value after the other -----------------------------------------------------

// max and sum of exp(x - max) over what it has met; NaN stays NaN, no values give -inf.
template <typename Real>
struct LogSumExp {
  Real max = -infinity<Real>();
  Real sum = Real(0);

  // Makes room for values up to `largest`.
  __device__ __forceinline__ void raise(Real largest) {
    if (largest > max) {
      sum *= exp_of(max - largest);
      max = largest;
    }
  }
  __device__ __forceinline__ void add(Real x) { sum += exp_of(x - max); }
  __device__ __forceinline__ void merge(Real other_max, Real other_sum) {
    const Real top = other_max > max ? other_max : max;
    if (top == -infinity<Real>()) {
      sum += other_sum;
      return;
    }
    sum = sum * exp_of(max - top) + other_sum * exp_of(other_max - top);
    max = top;
  }
  // Over the four lanes that share the rows of a fragment.
  __device__ __forceinline__ void merge_lanes() {
#pragma unroll
    for (int step = 1; step < 4; step *= 2) {
      const Real other_max = __shfl_xor_sync(kFullWarp, max, step);
      const Real other_sum = __shfl_xor_sync(kFullWarp, sum, step);
      merge(other_max, other_sum);
    }
  }
  __device__ __forceinline__ Real value() const { return max + log_of(sum); }
};

}  // namespace mclrec::cuda
