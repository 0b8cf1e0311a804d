// The rank of one target a row among the whole catalogue: scores are counted where they are made,
// in strips, and never stored. Then a warp a row takes the history's items out again.
//
// A score is one fixed chain of FMAs along the rows (PlainProduct and score_of are the same chain),
// so equal items tie exactly and a row's rank depends on nothing but the row. Never TF32.
//
// 2 B V D FLOP: 22 363 test users of Beauty are 35 GFLOP, about 0.8 ms at 65 % of the FMA pipe of
// sm_90. Memory: 3.1 MB of items for every 64 rows, from L2. Tiles and splits as in
// item_cross_entropy_kernel.cuh.
#pragma once

#include "item_cross_entropy_kernel.cuh"
#include "target_rank_cuda.h"

namespace mclrec::cuda {

// The strips' scratch: counts of each row in each part of the catalogue.
struct RankCounts {
  Splits splits;
  std::int32_t* higher;  // [splits, B]
  std::int32_t* ties;    // [splits, B]
  std::int32_t* broken;  // [splits, B] whether a score is not finite
};

// h . item in the order of PlainProduct.
template <typename Real>
__device__ __forceinline__ Real score_of(const Real* h, const Real* item, int hidden) {
  Real sum = Real(0);
  for (int d = 0; d < hidden; ++d) sum = fma_of(h[d], item[d], sum);
  return sum;
}

template <typename Real>
__device__ __forceinline__ bool is_finite(Real x) {
  return x - x == Real(0);
}

// Grid: (row tiles, splits).
template <typename Real>
__global__ void __launch_bounds__(kTileThreads)
    target_counts_kernel(TargetRankArguments<Real> job, Matrix<Real> h, Matrix<Real> items,
                         RankCounts counts) {
  using Product = PlainProduct<Real>;
  MCLREC_DYNAMIC_SHARED(Real, shared);
  MCLREC_SHARED(Real, target_score, [kTile]);
  const int first_row = static_cast<int>(blockIdx.x) * kTile;
  const int tiles = (items.rows + kTile - 1) / kTile;
  const int first = static_cast<int>(blockIdx.y) * counts.splits.tiles;
  const int end = first + counts.splits.tiles < tiles ? first + counts.splits.tiles : tiles;
  if (static_cast<int>(threadIdx.x) < kTile) {
    const int row = first_row + static_cast<int>(threadIdx.x);
    Real score = Real(0);
    if (row < h.rows) {
      const std::int64_t target = job.targets[row];
      const std::int64_t item = target > 0 && target < job.classes ? target : 0;
      score = score_of(job.h + static_cast<std::int64_t>(row) * job.hidden,
                       job.items + item * job.hidden, static_cast<int>(job.hidden));
    }
    target_score[threadIdx.x] = score;
  }
  __syncthreads();
  Real own[2];
  std::int64_t target[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + fragment_row(half);
    own[half] = target_score[fragment_row(half)];
    target[half] = row < h.rows ? job.targets[row] : 0;
  }
  int higher[2] = {0, 0}, ties[2] = {0, 0}, broken[2] = {0, 0};
  Strip<Product> strip(shared, h, first_row, items, last_piece(h));
  strip.walk(first, end,
             [&](const Fragment<Real>& product, int first_column, const StripRows<Real>&) {
#pragma unroll kUnroll < Real>
               for (int n = 0; n < kTileParts; ++n) {
#pragma unroll kUnroll < Real>
                 for (int c = 0; c < 4; ++c) {
                   const int item = first_column + fragment_column(n, c), half = c / 2;
                   if (item == 0 || item >= items.rows) continue;
                   const Real s = product.value[n][c];
                   broken[half] |= !is_finite(s);
                   if (item == target[half]) continue;
                   higher[half] += s > own[half];
                   ties[half] += s == own[half];
                 }
               }
             });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int step = 1; step < 4; step *= 2) {
      higher[half] += __shfl_xor_sync(kFullWarp, higher[half], step);
      ties[half] += __shfl_xor_sync(kFullWarp, ties[half], step);
      broken[half] |= __shfl_xor_sync(kFullWarp, broken[half], step);
    }
    const int row = first_row + fragment_row(half);
    if (row >= h.rows || lane_index() % 4 != 0) continue;
    const std::int64_t at = static_cast<std::int64_t>(blockIdx.y) * h.rows + row;
    counts.higher[at] = higher[half];
    counts.ties[at] = ties[half];
    counts.broken[at] = broken[half];
  }
}

inline constexpr int kRankThreads = 128;

// A warp a row: the parts' counts together, the history's items (each once) taken out for the
// masked rank. Grid: rows, four a block.
template <typename Real>
__global__ void __launch_bounds__(kRankThreads)
    target_rank_kernel(TargetRankArguments<Real> job, RankCounts counts) {
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (kRankThreads / kWarpSize) + warp_index();
  if (row >= job.batch) return;
  int higher = 0, ties = 0, broken = 0;
  for (int part = lane_index(); part < counts.splits.count; part += kWarpSize) {
    const std::int64_t at = part * job.batch + row;
    higher += counts.higher[at];
    ties += counts.ties[at];
    broken |= counts.broken[at];
  }
  const std::int64_t target = job.targets[row];
  const int hidden = static_cast<int>(job.hidden);
  const Real* h = job.h + row * hidden;
  const bool known = target > 0 && target < job.classes;
  const Real own = score_of(h, job.items + (known ? target : 0) * hidden, hidden);
  std::int64_t begin = job.history_offsets[row], end = job.history_offsets[row + 1];
  begin = begin < 0 ? 0 : begin;
  end = end > job.entries ? job.entries : end;
  int seen_higher = 0, seen_ties = 0;
  for (std::int64_t i = begin + lane_index(); i < end; i += kWarpSize) {
    const std::int32_t item = job.history[i];
    if (item <= 0 || item >= job.classes || item == target) continue;
    bool again = false;
    for (std::int64_t j = begin; j < i && !again; ++j) again = job.history[j] == item;
    if (again) continue;
    const Real s = score_of(h, job.items + static_cast<std::int64_t>(item) * hidden, hidden);
    seen_higher += s > own;
    seen_ties += s == own;
  }
  higher = group_sum<kWarpSize>(higher);
  ties = group_sum<kWarpSize>(ties);
  seen_higher = group_sum<kWarpSize>(seen_higher);
  seen_ties = group_sum<kWarpSize>(seen_ties);
  const bool bad = __any_sync(kFullWarp, broken) || !known;
  if (lane_index() != 0) return;
  const int masked_ties = ties - seen_ties;
  job.ranks[row] = bad ? -1 : higher + ties / 2;
  job.ranks[job.batch + row] = bad ? -1 : ties;
  job.ranks[2 * job.batch + row] = bad ? -1 : higher - seen_higher + masked_ties / 2;
  job.ranks[3 * job.batch + row] = bad ? -1 : masked_ties;
}

}  // namespace mclrec::cuda
