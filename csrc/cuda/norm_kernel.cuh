// LayerNorm with what surrounds it: embedding lookup and dropout, or dropout and the residual; and
// the backward pass of both. A row belongs to 16 lanes that hold four numbers each up to D = 64, to
// a whole warp beyond.
//
// Memory-bound: at T = 4 600, D = 64 a forward reads 2 and writes 2 to 3 rows of 256 bytes, 6 MB, 2
// us on sm_90, about the cost of the launch; the point of fusing is launches and round trips. 16
// lanes and not 32: at D = 64 a row is 16 times 16 bytes, and a warp's two rows are neighbours. 128
// threads do 8 rows: 575 blocks at T = 4 600.
#pragma once

#include "dense_kernel.cuh"
#include "dropout.cuh"
#include "norm_cuda.h"

namespace mclrec::cuda {

inline constexpr int kNormThreads = 128;

// Rows a block works on at a time.
template <int kLanes>
inline constexpr int kNormRows = kNormThreads / kLanes;

// The numbers of a row this lane holds: kFours times four. `hidden` numbers in all.
template <typename Real, int kLanes, int kFours>
struct RowPart {
  Four<Real> part[kFours];

  static __device__ __forceinline__ int first(int i) {
    return (static_cast<int>(threadIdx.x) % kLanes + i * kLanes) * 4;
  }
  __device__ __forceinline__ void load(const Real* row, int hidden, bool wide) {
#pragma unroll kUnroll < Real>
    for (int i = 0; i < kFours; ++i) part[i] = load_row_four(row, first(i), hidden, wide);
  }
  __device__ __forceinline__ void store(Real* row, int hidden, bool wide) const {
#pragma unroll kUnroll < Real>
    for (int i = 0; i < kFours; ++i) store_row_four(row, first(i), hidden, wide, part[i]);
  }
  // Calls visit(number, its index in the row) for the numbers inside the row.
  template <typename Visit>
  __device__ __forceinline__ void for_each(int hidden, Visit&& visit) {
#pragma unroll kUnroll < Real>
    for (int i = 0; i < kFours; ++i) {
#pragma unroll kUnroll < Real>
      for (int j = 0; j < 4; ++j) {
        if (first(i) + j < hidden) visit(part[i].v[j], first(i) + j);
      }
    }
  }
  __device__ __forceinline__ void drop(const Dropout& dropout, std::uint32_t row,
                                       std::uint64_t element) {
#pragma unroll kUnroll < Real>
    for (int i = 0; i < kFours; ++i) {
      part[i] = drop_four(dropout, row, element + static_cast<std::uint64_t>(first(i)),
                          static_cast<Real>(dropout.scale), part[i]);
    }
  }
};

// A row's sequence and the index of its first element in a dropout site: (token in sequence) D.
struct RowAddress {
  std::uint32_t sequence;
  std::uint64_t element;
};

// Begin and end of a sequence, inside the capacity whatever the offsets say.
struct Span {
  int begin, end;
};
__device__ __forceinline__ Span span_of(const std::int32_t* offsets, std::int64_t capacity,
                                        std::int64_t sequence) {
  const int most = static_cast<int>(capacity);
  int begin = offsets[sequence], end = offsets[sequence + 1];
  begin = begin < 0 ? 0 : begin > most ? most : begin;
  end = end < begin ? begin : end > most ? most : end;
  return {begin, end};
}

__device__ __forceinline__ RowAddress address_of(const Rows& rows, int row, int hidden) {
  const int sequence = rows.sequence == nullptr ? row : rows.sequence[row];
  const Span span = span_of(rows.offsets, rows.capacity, sequence);
  const int last = span.end > span.begin ? span.end - 1 - span.begin : 0;
  const int place = rows.sequence == nullptr ? last : row - span.begin;
  return {static_cast<std::uint32_t>(sequence),
          static_cast<std::uint64_t>(static_cast<std::uint32_t>(place)) *
              static_cast<std::uint64_t>(hidden)};
}

// x becomes (x - mean) / sd; returns 1 / sd. By the lanes of a row, with all lanes of the warp.
template <typename Real, int kLanes, int kFours>
__device__ __forceinline__ Real normalise(RowPart<Real, kLanes, kFours>& x, int hidden, Real eps) {
  const Real count = static_cast<Real>(hidden);
  Real sum = Real(0);
  x.for_each(hidden, [&](Real& v, int) { sum += v; });
  const Real mean = group_sum<kLanes>(sum) / count;
  Real square = Real(0);
  x.for_each(hidden, [&](Real& v, int) {
    v -= mean;
    square = fma_of(v, v, square);
  });
  const Real inverse = Real(1) / sqrt_of(group_sum<kLanes>(square) / count + eps);
  x.for_each(hidden, [&](Real& v, int) { v *= inverse; });
  return inverse;
}

template <typename Real>
__device__ __forceinline__ bool vectors_are_wide(const Real* a, const Real* b, int hidden) {
  return hidden % 4 == 0 && reinterpret_cast<std::uintptr_t>(a) % 16 == 0 &&
         reinterpret_cast<std::uintptr_t>(b) % 16 == 0;
}

// out = weight * unit + bias.
template <typename Real, int kLanes, int kFours>
__device__ __forceinline__ RowPart<Real, kLanes, kFours> scale_and_shift(
    const RowPart<Real, kLanes, kFours>& unit, const Real* weight, const Real* bias, int hidden) {
  RowPart<Real, kLanes, kFours> out = unit;
  out.for_each(hidden, [&](Real& v, int d) { v = fma_of(v, weight[d], bias[d]); });
  return out;
}

// The last sequence that begins at or before a token.
__device__ __forceinline__ int sequence_of(const Packed& packed, int token) {
  int low = 0, high = static_cast<int>(packed.sequences);
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (packed.offsets[middle] <= token) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

__device__ __forceinline__ std::int64_t clamped(std::int32_t index, std::int64_t count) {
  return index < 0 ? 0 : index < count ? index : count - 1;
}

template <typename Real, int kLanes, int kFours>
__global__ void __launch_bounds__(kNormThreads) embed_kernel(Embed<Real> job) {
  const int rows = live_rows(job.packed.tokens());
  const int first = static_cast<int>(blockIdx.x) * kNormRows<kLanes>;
  if (first >= rows) return;
  const int token = first + static_cast<int>(threadIdx.x) / kLanes;
  const bool real = token < rows;
  const int hidden = job.hidden;
  const bool wide = vectors_are_wide(job.item_embedding, job.position_embedding, hidden);
  RowPart<Real, kLanes, kFours> x, position;
  const int at = real ? token : first;
  x.load(job.item_embedding + clamped(job.packed.items[at], job.classes) * hidden, hidden, wide);
  position.load(job.position_embedding + clamped(job.packed.positions[at], job.places) * hidden,
                hidden, wide);
#pragma unroll kUnroll < Real>
  for (int i = 0; i < kFours; ++i) {
#pragma unroll kUnroll < Real>
    for (int j = 0; j < 4; ++j) x.part[i].v[j] += position.part[i].v[j];
  }
  const Real inverse = normalise(x, hidden, static_cast<Real>(job.eps));
  if (!real) return;
  const std::int64_t start = static_cast<std::int64_t>(token) * hidden;
  const int sequence = sequence_of(job.packed, token);
  const Rows by_sequence{job.packed.tokens(), job.packed.offsets, nullptr, job.packed.capacity};
  const Span span = span_of(by_sequence.offsets, by_sequence.capacity, sequence);
  const int place = token - span.begin;
  x.store(job.normalised.unit + start, hidden, hidden % 4 == 0);
  RowPart<Real, kLanes, kFours> out = scale_and_shift(x, job.weight, job.bias, hidden);
  out.drop(job.dropout, static_cast<std::uint32_t>(sequence),
           static_cast<std::uint64_t>(static_cast<std::uint32_t>(place)) *
               static_cast<std::uint64_t>(hidden));
  out.store(job.out + start, hidden, hidden % 4 == 0);
  if (threadIdx.x % kLanes == 0) {
    job.normalised.inverse[token] = inverse;
    job.sequence[token] = sequence;
  }
}

template <typename Real, int kLanes, int kFours>
__global__ void __launch_bounds__(kNormThreads) residual_norm_kernel(ResidualNorm<Real> job) {
  const int rows = live_rows(job.rows.count);
  const int first = static_cast<int>(blockIdx.x) * kNormRows<kLanes>;
  if (first >= rows) return;
  const int row = first + static_cast<int>(threadIdx.x) / kLanes;
  const bool real = row < rows;
  const int hidden = job.hidden, at = real ? row : first;
  const bool wide = hidden % 4 == 0;
  const std::int64_t start = static_cast<std::int64_t>(at) * hidden;
  const RowAddress address = address_of(job.rows, at, hidden);
  RowPart<Real, kLanes, kFours> x, y;
  x.load(job.x + start, hidden, wide);
  y.load(job.y + start, hidden, wide);
  y.drop(job.dropout, address.sequence, address.element);
#pragma unroll kUnroll < Real>
  for (int i = 0; i < kFours; ++i) {
#pragma unroll kUnroll < Real>
    for (int j = 0; j < 4; ++j) x.part[i].v[j] += y.part[i].v[j];
  }
  const Real inverse = normalise(x, hidden, static_cast<Real>(job.eps));
  if (!real) return;
  x.store(job.normalised.unit + start, hidden, wide);
  scale_and_shift(x, job.weight, job.bias, hidden).store(job.out + start, hidden, wide);
  if (threadIdx.x % kLanes == 0) job.normalised.inverse[row] = inverse;
}

// With u the normalised row, s = 1 / sd and g = grad * weight:
//   d (input) = s (g - mean(g) - u mean(g u));  d weight = sum grad * u;  d bias = sum grad.
template <typename Real, int kLanes, int kFours>
__global__ void __launch_bounds__(kNormThreads) norm_backward_kernel(NormBackward<Real> job) {
  MCLREC_DYNAMIC_SHARED(Real, shared);  // [kNormRows<kLanes>][2][D]
  const int rows = live_rows(job.rows.count);
  const int begin = static_cast<int>(blockIdx.x) * job.rows_per_split;
  if (begin >= rows) return;
  const int end = begin + job.rows_per_split < rows ? begin + job.rows_per_split : rows;
  const int group = static_cast<int>(threadIdx.x) / kLanes, hidden = job.hidden;
  const bool wide = hidden % 4 == 0;
  const Real count = static_cast<Real>(hidden);
  RowPart<Real, kLanes, kFours> grad_weight = {}, grad_bias = {};

  for (int first = begin; first < end; first += kNormRows<kLanes>) {
    const int row = first + group;
    const bool real = row < end;
    const int at = real ? row : first;
    const std::int64_t start = static_cast<std::int64_t>(at) * hidden;
    const RowAddress address = address_of(job.rows, at, hidden);
    RowPart<Real, kLanes, kFours> grad, unit;
    grad.load(job.grad + start, hidden, wide);
    unit.load(job.normalised.unit + start, hidden, wide);
    if (job.dropout_after) grad.drop(job.dropout, address.sequence, address.element);
    Real sum = Real(0), dot = Real(0);
#pragma unroll kUnroll < Real>
    for (int i = 0; i < kFours; ++i) {
#pragma unroll kUnroll < Real>
      for (int j = 0; j < 4; ++j) {
        const int d = grad.first(i) + j;
        Real& g = grad.part[i].v[j];
        const Real u = unit.part[i].v[j];
        if (d >= hidden) continue;
        if (real) {
          grad_weight.part[i].v[j] += g * u;
          grad_bias.part[i].v[j] += g;
        }
        g *= job.weight[d];
        sum += g;
        dot = fma_of(g, u, dot);
      }
    }
    sum = group_sum<kLanes>(sum) / count;
    dot = group_sum<kLanes>(dot) / count;
    if (!real) continue;
    const Real inverse = job.normalised.inverse[row];
#pragma unroll kUnroll < Real>
    for (int i = 0; i < kFours; ++i) {
#pragma unroll kUnroll < Real>
      for (int j = 0; j < 4; ++j) {
        Real& g = grad.part[i].v[j];
        g = inverse * (g - sum - unit.part[i].v[j] * dot);
      }
    }
    grad.store(job.grad_x + start, hidden, wide);
    if (job.grad_y == nullptr) continue;
    grad.drop(job.dropout, address.sequence, address.element);
    grad.store(job.grad_y + start, hidden, wide);
  }

  // The groups' sums, added up in order.
  Real* mine = shared + group * 2 * hidden;
  grad_weight.store(mine, hidden, false);
  grad_bias.store(mine + hidden, hidden, false);
  __syncthreads();
  Real* partial = job.partial + static_cast<std::int64_t>(blockIdx.x) * 2 * hidden;
  for (int d = static_cast<int>(threadIdx.x); d < 2 * hidden; d += kNormThreads) {
    Real sum = shared[d];
    for (int g = 1; g < kNormRows<kLanes>; ++g) sum += shared[g * 2 * hidden + d];
    partial[d] = sum;
  }
}

}  // namespace mclrec::cuda
