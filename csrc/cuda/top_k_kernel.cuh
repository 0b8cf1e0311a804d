// The k best items of each row among the whole catalogue: scores are looked at where they are made,
// in strips, and never stored. Each part of the catalogue leaves a list of its k best; a warp a row
// then puts the lists together in order. A score is target_rank's: the same chain of FMAs, never
// TF32, and of equal scores the lower item goes first, so the answer does not depend on the parts.
//
// 2 B V D FLOP, tiles and splits as target_rank's: bound by the FMA pipe of sm_90 where B is large.
// Candidates are gathered first, 2 A D numbers moved (512 MB and 0.2 ms for a million of D = 64)
// against 2 B A D FLOP; the kernels then work on column numbers and say ids at the end.
//
// By count of instructions at V = 12 102, D = 64, k = 20: the products of a warp's 16 rows are 390
// k, comparing their scores with the lists' worst 75 k, and taking in the 150 items or so that
// enter a list, k (1 + ln(V / k)), 80 k: a quad of lanes keeps a row's list, unordered, and looks
// for its worst entry again, k / 4 steps, so the eight rows of a warp go on side by side. At B = 64
// the first tile of every part is most of the work, 17 k instructions a warp, some 15 us.
#pragma once

#include "target_rank_kernel.cuh"
#include "top_k_cuda.h"

namespace mclrec::cuda {

// The lists of all parts, [splits, B, kept] each, in no order; item 0 stands for nothing.
template <typename Real>
struct TopKLists {
  Splits splits;
  int kept;  // entries of a list: k, or all items of a part
  Real* scores;
  std::int32_t* items;
  std::int32_t* broken;  // [splits, B] whether a score is not finite
};

inline constexpr int kGatherThreads = 128;

// A warp a row of the gathered table [A + 1, D]: row 0 is padding, row i candidate i - 1. A
// candidate outside the table becomes id 0, which is never returned. Grid: rows, four a block.
template <typename Real>
__global__ void __launch_bounds__(kGatherThreads)
    gather_candidates_kernel(TopKArguments<Real> job, Real* table, std::int32_t* ids) {
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (kGatherThreads / kWarpSize) + warp_index();
  if (row > job.candidate_count) return;
  const std::int32_t given = row == 0 ? 0 : job.candidates[row - 1];
  const std::int32_t id = given > 0 && given < job.classes ? given : 0;
  if (lane_index() == 0) ids[row] = id;
  for (std::int64_t d = lane_index(); d < job.hidden; d += kWarpSize) {
    table[row * job.hidden + d] = id == 0 ? Real(0) : job.items[id * job.hidden + d];
  }
}

// The item of a column of the table that is searched.
template <typename Real>
__device__ __forceinline__ int item_of(const TopKArguments<Real>& job, int column) {
  return job.candidates == nullptr ? column : job.candidates[column];
}

// The order of the answer; two items of a row are never equal in it.
template <typename Real>
__device__ __forceinline__ bool goes_before(Real score, int item, Real other, int other_item) {
  return score > other || (score == other && item < other_item);
}

template <typename Real>
__device__ __forceinline__ bool is_excluded(const TopKArguments<Real>& job, std::int64_t row,
                                            int column, int first, int step) {
  const int item = item_of(job, column);
  if (item == 0) return true;
  std::int64_t begin = job.exclude_offsets[row], end = job.exclude_offsets[row + 1];
  begin = begin < 0 ? 0 : begin;
  end = end > job.entries ? job.entries : end;
  bool found = false;
  for (std::int64_t i = begin + first; i < end && !found; i += step) {
    found = job.exclude[i] == item;
  }
  return found;
}

// The list of one row, which the four lanes of a quad keep together. Everything but `rest` is the
// same in all four.
template <typename Real>
struct QuadList {
  Real* scores;
  std::int32_t* items;
  int kept;
  int filled = 0;
  int worst = 0;  // where the worst entry is, once the list is full
  Real worst_score = -infinity<Real>();
  int worst_item = 0;

  __device__ __forceinline__ bool wants(Real score, int item) const {
    return filled < kept || goes_before(score, item, worst_score, worst_item);
  }

  // By all lanes of the warp; `take` says for each quad whether it has an item to take in.
  __device__ __forceinline__ void insert(bool take, Real score, int item) {
    const int place = filled < kept ? filled : worst;
    if (take && lane_index() % 4 == 0) {
      scores[place] = score;
      items[place] = item;
    }
    if (take && filled < kept) ++filled;
    __syncwarp();
    if (!__any_sync(kFullWarp, take && filled == kept)) return;
    Real low = infinity<Real>();
    int low_item = -1, at = 0;
    for (int i = lane_index() % 4; i < kept; i += 4) {
      if (filled < kept) break;
      const Real s = scores[i];
      if (goes_before(s, items[i], low, low_item)) continue;
      low = s;
      low_item = items[i];
      at = i;
    }
#pragma unroll
    for (int step = 1; step < 4; step *= 2) {
      const Real other = __shfl_xor_sync(kFullWarp, low, step);
      const int other_item = __shfl_xor_sync(kFullWarp, low_item, step);
      const int other_at = __shfl_xor_sync(kFullWarp, at, step);
      if (goes_before(other, other_item, low, low_item)) continue;
      low = other;
      low_item = other_item;
      at = other_at;
    }
    if (filled == kept) {
      worst = at;
      worst_score = low;
      worst_item = low_item;
    }
    __syncwarp();
  }
};

// Number `index` (2 n + e) of a row's sixteen in this thread's fragment, which stays in registers.
template <typename Real>
__device__ __forceinline__ Real number_of(const Fragment<Real>& product, int half, int index) {
  Real x = Real(0);
#pragma unroll kUnroll < Real>
  for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
    for (int e = 0; e < 2; ++e) {
      if (index == 2 * n + e) x = product.value[n][2 * half + e];
    }
  }
  return x;
}

// Takes a tile's scores of the fragment rows `half` into their lists.
template <typename Real>
__device__ __forceinline__ void take_in(const TopKArguments<Real>& job,
                                        const Fragment<Real>& product, int half, int row,
                                        int first_column, QuadList<Real>& list, int& broken) {
  unsigned wanted = 0;
#pragma unroll kUnroll < Real>
  for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
    for (int e = 0; e < 2; ++e) {
      const int item = first_column + fragment_column(n, e);
      const Real s = product.value[n][2 * half + e];
      const bool real = item > 0 && item < job.classes;
      broken |= real && !is_finite(s);
      if (real && list.wants(s, item)) wanted |= 1u << (2 * n + e);
    }
  }
  if (row >= job.batch) wanted = 0;
  // One item a quad at a time, lane after lane; others may have been overtaken meanwhile.
  for (unsigned lanes = __ballot_sync(kFullWarp, wanted != 0); lanes != 0;
       lanes = __ballot_sync(kFullWarp, wanted != 0)) {
    const unsigned quad = lanes >> (lane_index() / 4 * 4) & 15u;
    const int source = quad == 0 ? 0 : __ffs(static_cast<int>(quad)) - 1;
    const int mine = wanted == 0 ? 0 : __ffs(static_cast<int>(wanted)) - 1;
    const int index = __shfl_sync(kFullWarp, mine, source, 4);
    const Real score = __shfl_sync(kFullWarp, number_of(product, half, mine), source, 4);
    if (quad != 0 && lane_index() % 4 == source) wanted &= wanted - 1;
    const int item = first_column + 8 * (index / 2) + 2 * source + index % 2;
    const bool fits = quad != 0 && list.wants(score, item);
    int out = fits && is_excluded(job, row, item, lane_index() % 4, 4);
    out |= __shfl_xor_sync(kFullWarp, out, 1);
    out |= __shfl_xor_sync(kFullWarp, out, 2);
    list.insert(fits && out == 0, score, item);
  }
}

// Grid: (row tiles, splits).
template <typename Real>
__global__ void __launch_bounds__(kTileThreads)
    top_k_lists_kernel(TopKArguments<Real> job, Matrix<Real> h, Matrix<Real> items,
                       TopKLists<Real> lists) {
  using Product = PlainProduct<Real>;
  MCLREC_DYNAMIC_SHARED(Real, shared);
  const int first_row = static_cast<int>(blockIdx.x) * kTile;
  const int tiles = (items.rows + kTile - 1) / kTile;
  const int first = static_cast<int>(blockIdx.y) * lists.splits.tiles;
  const int end = first + lists.splits.tiles < tiles ? first + lists.splits.tiles : tiles;
  QuadList<Real> list[2];
  int broken[2] = {0, 0};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + fragment_row(half);
    const std::int64_t at =
        static_cast<std::int64_t>(blockIdx.y) * h.rows + (row < h.rows ? row : 0);
    list[half].scores = lists.scores + at * lists.kept;
    list[half].items = lists.items + at * lists.kept;
    list[half].kept = lists.kept;
  }
  Strip<Product> strip(shared, h, first_row, items, last_piece(h));
  strip.walk(first, end,
             [&](const Fragment<Real>& product, int first_column, const StripRows<Real>&) {
#pragma unroll
               for (int half = 0; half < 2; ++half) {
                 take_in(job, product, half, first_row + fragment_row(half), first_column,
                         list[half], broken[half]);
               }
             });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int step = 1; step < 4; step *= 2) {
      broken[half] |= __shfl_xor_sync(kFullWarp, broken[half], step);
    }
    const int row = first_row + fragment_row(half);
    if (row >= h.rows) continue;
    for (int i = list[half].filled + lane_index() % 4; i < lists.kept; i += 4) {
      list[half].items[i] = 0;
    }
    if (lane_index() % 4 == 0) {
      lists.broken[static_cast<std::int64_t>(blockIdx.y) * h.rows + row] = broken[half];
    }
  }
}

inline constexpr int kTopKThreads = 128;

// A warp a row: each place of the answer is the best entry of all lists behind the place before.
// Grid: rows, four a block.
template <typename Real>
__global__ void __launch_bounds__(kTopKThreads)
    top_k_kernel(TopKArguments<Real> job, TopKLists<Real> lists) {
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (kTopKThreads / kWarpSize) + warp_index();
  if (row >= job.batch) return;
  int broken = 0;
  for (int part = lane_index(); part < lists.splits.count; part += kWarpSize) {
    broken |= lists.broken[part * job.batch + row];
  }
  const bool bad = __any_sync(kFullWarp, broken);
  Real last = infinity<Real>();
  int last_item = -1;
  bool more = !bad;
  for (std::int64_t place = 0; place < job.k; ++place) {
    Real best = -infinity<Real>();
    int best_item = 0;
    for (int part = 0; more && part < lists.splits.count; ++part) {
      const std::int64_t at = (part * job.batch + row) * lists.kept;
      for (int i = lane_index(); i < lists.kept; i += kWarpSize) {
        const int item = lists.items[at + i];
        if (item == 0) continue;
        const Real s = lists.scores[at + i];
        if (!goes_before(last, last_item, s, item)) continue;
        if (best_item != 0 && !goes_before(s, item, best, best_item)) continue;
        best = s;
        best_item = item;
      }
    }
#pragma unroll
    for (int step = 1; step < kWarpSize; step *= 2) {
      const Real other = __shfl_xor_sync(kFullWarp, best, step);
      const int other_item = __shfl_xor_sync(kFullWarp, best_item, step);
      if (other_item == 0) continue;
      if (best_item != 0 && !goes_before(other, other_item, best, best_item)) continue;
      best = other;
      best_item = other_item;
    }
    if (lane_index() == 0) {
      job.scores[row * job.k + place] = best;
      job.best_items[row * job.k + place] = bad ? -1 : item_of(job, best_item);
    }
    more = more && best_item != 0;
    last = best;
    last_item = best_item;
  }
}

}  // namespace mclrec::cuda
