// The matrix product all dense kernels share: one block of 128 threads makes a 64 x 64 tile of
// A B, both operands in shared memory. Three ways of multiplying, plain (FMA, float or double),
// TF32 and bf16 (tensor cores, float), leave the result in the same lanes, so what a kernel does
// with it (softmax, statistics, an epilogue) is written once.
//
// Why 64 x 64 and 4 warps: the accumulators take 32 registers a thread, leaving room for two
// more sets (a tile's gradients and their sum), and three operand tiles fit four blocks in the
// shared memory of an sm_90 SM; batches here have 256 to some thousand rows, which larger tiles
// would spread over too few SMs.
#pragma once

#include "portable.cuh"
#include "precision.h"

namespace mclrec::cuda {

inline constexpr int kTile = 64;  // rows and columns of a tile; also its depth in a strip
inline constexpr int kTileThreads = 128;
inline constexpr int kWarpRows = 16;  // rows of the tile each warp owns, over all 64 columns
inline constexpr int kTileParts = 8;  // column groups of 8

// Row strides of operand tiles in shared memory, chosen so that neither a fragment load of the
// tensor-core product nor a 16-byte load of the plain one meets a bank twice: numbers of a row lie
// along the depth (stride = 4 mod 32) or across it (stride = 8 mod 32).
inline constexpr int kStripStride = 68;

// What a thread holds of the 64 x 64 product: the layout of mma.m16n8k8's result. With g = lane / 4
// and t = lane % 4, value[n][c] is element (16 warp + g + 8 (c / 2), 8 n + 2 t + c % 2).
template <typename Real>
struct Fragment {
  Real value[kTileParts][4];

  __device__ __forceinline__ void clear() {
#pragma unroll kUnroll < Real>
    for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
      for (int c = 0; c < 4; ++c) value[n][c] = Real(0);
    }
  }
  __device__ __forceinline__ void add(const Fragment& other) {
#pragma unroll kUnroll < Real>
    for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
      for (int c = 0; c < 4; ++c) value[n][c] += other.value[n][c];
    }
  }
};

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x) % kWarpSize; }
__device__ __forceinline__ int warp_index() { return static_cast<int>(threadIdx.x) / kWarpSize; }

// The tile row of half `half` (c / 2) of this thread's fragment, and the tile column of
// value[n][c].
__device__ __forceinline__ int fragment_row(int half) {
  return warp_index() * kWarpRows + lane_index() / 4 + 8 * half;
}
__device__ __forceinline__ int fragment_column(int n, int c) {
  return 8 * n + 2 * (lane_index() % 4) + (c & 1);
}

// An operand tile in shared memory: its element at depth k of row (or column) i. `kAlongDepth`:
// consecutive numbers lie along the depth; otherwise across it.
template <typename Real, bool kAlongDepth, int kStride>
struct Operand {
  const Real* tile;

  __device__ __forceinline__ Real at(int k, int i) const {
    return kAlongDepth ? tile[i * kStride + k] : tile[k * kStride + i];
  }
  __device__ __forceinline__ Four<Real> four_deep(int k, int i) const {
    if constexpr (kAlongDepth) {
      return load_four(tile + i * kStride + k);
    } else {
      Four<Real> x;
#pragma unroll kUnroll < Real>
      for (int j = 0; j < 4; ++j) x.v[j] = tile[(k + j) * kStride + i];
      return x;
    }
  }
};

// --- the plain product --------------------------------------------------------------------------

// Every sum runs over the depth in ascending order with one FMA a term, whatever the tile: equal
// vectors give equal scores.
template <typename Scalar>
struct PlainProduct {
  using Real = Scalar;

  // result += A B over `depth` (a multiple of 4); A 64 x depth, B depth x 64.
  template <typename OperandA, typename OperandB>
  static __device__ __forceinline__ void multiply(Fragment<Real>& result, const OperandA& a,
                                                  const OperandB& b, int depth) {
    const int row = fragment_row(0);
    for (int k = 0; k < depth; k += 4) {
      const Four<Real> a0 = a.four_deep(k, row), a1 = a.four_deep(k, row + 8);
#pragma unroll kUnroll < Real>
      for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
        for (int c = 0; c < 2; ++c) {
          const Four<Real> x = b.four_deep(k, fragment_column(n, c));
#pragma unroll kUnroll < Real>
          for (int j = 0; j < 4; ++j) {
            result.value[n][c] = fma_of(a0.v[j], x.v[j], result.value[n][c]);
            result.value[n][c + 2] = fma_of(a1.v[j], x.v[j], result.value[n][c + 2]);
          }
        }
      }
    }
  }

  // result += W B with W 64 x 64 in this fragment layout; b.at(j, column), j = 0..63.
  template <typename OperandB>
  static __device__ __forceinline__ void multiply_fragment(Fragment<Real>& result,
                                                           const Fragment<Real>& w,
                                                           const OperandB& b) {
#pragma unroll kUnroll < Real>
    for (int m = 0; m < kTileParts; ++m) {
      for (int source = 0; source < 4; ++source) {
#pragma unroll kUnroll < Real>
        for (int c = 0; c < 2; ++c) {
          // Column 8 m + 2 source + c of W is held by lane `source` of each group of four.
          const Real w0 = __shfl_sync(kFullWarp, w.value[m][c], source, 4);
          const Real w1 = __shfl_sync(kFullWarp, w.value[m][c + 2], source, 4);
          const int j = 8 * m + 2 * source + c;
#pragma unroll kUnroll < Real>
          for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
            for (int e = 0; e < 2; ++e) {
              const Real x = b.at(j, fragment_column(n, e));
              result.value[n][e] = fma_of(w0, x, result.value[n][e]);
              result.value[n][e + 2] = fma_of(w1, x, result.value[n][e + 2]);
            }
          }
        }
      }
    }
  }
};

// --- the tensor-core products -------------------------------------------------------------------

// Operands are rounded to TF32 (relative error 2^-11), products and sums are float32.
struct Tf32Product {
  using Real = float;

  // As PlainProduct::multiply; `depth` a multiple of 8.
  template <typename OperandA, typename OperandB>
  static __device__ __forceinline__ void multiply(Fragment<float>& result, const OperandA& a,
                                                  const OperandB& b, int depth) {
    const int row = fragment_row(0), g = lane_index() / 4, t = lane_index() % 4;
    for (int k = 0; k < depth; k += 8) {
      const std::uint32_t left[4] = {to_tf32(a.at(k + t, row)), to_tf32(a.at(k + t, row + 8)),
                                     to_tf32(a.at(k + t + 4, row)),
                                     to_tf32(a.at(k + t + 4, row + 8))};
#pragma unroll kUnroll < float>
      for (int n = 0; n < kTileParts; ++n) {
        const std::uint32_t right[2] = {to_tf32(b.at(k + t, 8 * n + g)),
                                        to_tf32(b.at(k + t + 4, 8 * n + g))};
        mma_tf32(result.value[n], left, right);
      }
    }
  }

  // As PlainProduct::multiply_fragment. The order of the depth within one mma is free as long as
  // both operands agree: depth t is column 2 t of W and depth t + 4 column 2 t + 1, which is just
  // what the lane holds of them, so W never leaves its registers.
  template <typename OperandB>
  static __device__ __forceinline__ void multiply_fragment(Fragment<float>& result,
                                                           const Fragment<float>& w,
                                                           const OperandB& b) {
    const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll kUnroll < float>
    for (int m = 0; m < kTileParts; ++m) {
      const std::uint32_t left[4] = {to_tf32(w.value[m][0]), to_tf32(w.value[m][2]),
                                     to_tf32(w.value[m][1]), to_tf32(w.value[m][3])};
      const int j = 8 * m + 2 * t;
#pragma unroll kUnroll < float>
      for (int n = 0; n < kTileParts; ++n) {
        const std::uint32_t right[2] = {to_tf32(b.at(j, 8 * n + g)),
                                        to_tf32(b.at(j + 1, 8 * n + g))};
        mma_tf32(result.value[n], left, right);
      }
    }
  }
};

// Operands are rounded to bf16 (relative error 2^-8), products and sums are float32. The numbers
// are read from the same places as for TF32, without meeting a bank twice: depth 2 t and 2 t + 1 of
// an mma are t and t + 4 of the tile, in both operands.
struct Bf16Product {
  using Real = float;

  // As PlainProduct::multiply; `depth` a multiple of 8.
  template <typename OperandA, typename OperandB>
  static __device__ __forceinline__ void multiply(Fragment<float>& result, const OperandA& a,
                                                  const OperandB& b, int depth) {
    const int row = fragment_row(0), g = lane_index() / 4, t = lane_index() % 4;
    for (int k = 0; k < depth; k += 16) {
      const bool full = k + 8 < depth;  // else the second half of the mma is zeros
      const std::uint32_t left[4] = {pair(a, k + t, row), pair(a, k + t, row + 8),
                                     full ? pair(a, k + 8 + t, row) : 0u,
                                     full ? pair(a, k + 8 + t, row + 8) : 0u};
#pragma unroll kUnroll < float>
      for (int n = 0; n < kTileParts; ++n) {
        const std::uint32_t right[2] = {pair(b, k + t, 8 * n + g),
                                        full ? pair(b, k + 8 + t, 8 * n + g) : 0u};
        mma_bf16(result.value[n], left, right);
      }
    }
  }

  // As PlainProduct::multiply_fragment. Two neighbouring parts of W make one mma, as they lie.
  template <typename OperandB>
  static __device__ __forceinline__ void multiply_fragment(Fragment<float>& result,
                                                           const Fragment<float>& w,
                                                           const OperandB& b) {
    const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll kUnroll < float>
    for (int m = 0; m < kTileParts; m += 2) {
      const float (&low)[4] = w.value[m], (&high)[4] = w.value[m + 1];
      const std::uint32_t left[4] = {to_bf16_pair(low[0], low[1]), to_bf16_pair(low[2], low[3]),
                                     to_bf16_pair(high[0], high[1]),
                                     to_bf16_pair(high[2], high[3])};
      const int j = 8 * m + 2 * t;
#pragma unroll kUnroll < float>
      for (int n = 0; n < kTileParts; ++n) {
        const int column = 8 * n + g;
        const std::uint32_t right[2] = {to_bf16_pair(b.at(j, column), b.at(j + 1, column)),
                                        to_bf16_pair(b.at(j + 8, column), b.at(j + 9, column))};
        mma_bf16(result.value[n], left, right);
      }
    }
  }

 private:
  template <typename Operand>
  static __device__ __forceinline__ std::uint32_t pair(const Operand& operand, int k, int i) {
    return to_bf16_pair(operand.at(k, i), operand.at(k + 4, i));
  }
};

// total += W B as Product::multiply_fragment makes it, by way of a sum of the tile's own: the
// rounding of a long sum then grows with the number of its tiles, not of its terms.
template <typename Product, typename OperandB>
__device__ __forceinline__ void add_product(Fragment<typename Product::Real>& total,
                                            const Fragment<typename Product::Real>& w,
                                            const OperandB& b) {
  Fragment<typename Product::Real> tile;
  tile.clear();
  Product::multiply_fragment(tile, w, b);
  total.add(tile);
}

// Calls run(product) with the product of that precision.
template <typename Run>
inline void by_precision(Precision precision, Run&& run) {
  switch (precision) {
    case Precision::kFloat32:
      return run(PlainProduct<float>());
    case Precision::kTf32:
      return run(Tf32Product());
    case Precision::kBf16:
      return run(Bf16Product());
  }
}

// --- operand tiles ------------------------------------------------------------------------------

// Whether the rows of a matrix may be read 16 bytes at a time.
template <typename Real>
inline bool rows_are_wide(const Real* matrix, std::int64_t row_stride, std::int64_t columns) {
  return reinterpret_cast<std::uintptr_t>(matrix) % 16 == 0 && row_stride % 4 == 0 &&
         columns % 4 == 0;
}

// A row-major matrix in global memory, [rows, columns] with `stride` numbers from row to row.
template <typename Real>
struct Matrix {
  const Real* data;
  int rows;
  int columns;
  std::int64_t stride;
  bool wide;  // see rows_are_wide
};

template <typename Real>
inline Matrix<Real> matrix_of(const Real* data, std::int64_t rows, std::int64_t columns,
                              std::int64_t stride) {
  return {data, static_cast<int>(rows), static_cast<int>(columns), stride,
          rows_are_wide(data, stride, columns)};
}

// Starts copying kRows rows from `row` and `columns` columns (a multiple of 4, at most kColumns)
// from `column` of a matrix into shared memory; what lies outside the matrix becomes 0.
// Neighbouring threads copy neighbouring 16 bytes. The caller commits, waits and meets the block at
// a barrier.
template <int kRows, int kColumns, int kStride, typename Real>
__device__ __forceinline__ void load_tile(Real* tile, const Matrix<Real>& matrix, int row,
                                          int column, int columns) {
  constexpr int kFours = kColumns / 4;
  for (int index = static_cast<int>(threadIdx.x); index < kRows * kFours; index += kTileThreads) {
    const int r = index / kFours, c = index % kFours * 4;
    if (c >= columns) continue;
    Real* to = tile + r * kStride + c;
    const bool inside = row + r < matrix.rows;
    const Real* from = matrix.data;
    if (inside) from += static_cast<std::int64_t>(row + r) * matrix.stride + column + c;
    if (matrix.wide) {
      const bool valid = inside && column + c < matrix.columns;
      const Real* source = valid ? from : matrix.data;
      copy_async<16>(to, source, valid);
      if constexpr (sizeof(Real) == 8) copy_async<16>(to + 2, source + (valid ? 2 : 0), valid);
    } else {
#pragma unroll kUnroll < Real>
      for (int i = 0; i < 4; ++i) {
        const bool valid = inside && column + c + i < matrix.columns;
        copy_async<sizeof(Real)>(to + i, valid ? from + i : matrix.data, valid);
      }
    }
  }
}

// The part of a depth that a product over it reads from `first` on: at most `most`, a multiple
// of 8.
__device__ __forceinline__ int depth_of(int depth, int first, int most) {
  const int left = (depth - first + 7) / 8 * 8;
  return left < most ? left : most;
}

}  // namespace mclrec::cuda
