// Sample gathering and both augmented views of a batch (Qin et al. 2023, section 4.1), straight
// from the log into packed tokens. Two launches: the first counts each view's tokens, the second
// sums the counts before its own rows and writes. A warp owns a row; nothing waits for the host.
//
// Cost for B = 256, mean length 8: 768 rows, 50 KB read and written, some 40 Philox blocks a row:
// bound by latency, about 3 us a launch. Four warps a block and 32 rows of prefix sums: enough
// blocks (24) that a row's serial work, at most L / 32 steps squared, is what takes the time.
//
// Integers and one float product only: the same bits as the CPU kernel and the reference.
#pragma once

#include "augment_views_cuda.h"
#include "portable.cuh"

namespace mclrec::cuda {

inline constexpr int kAugmentWarps = 4;
inline constexpr int kAugmentRows = 32;  // rows of a block

// What the first kernel leaves for the second.
struct RowTokens {
  std::int32_t* of_row;    // [R]
  std::int32_t* of_block;  // [blocks of kAugmentRows rows]
};

// A row's history, clamped to the log.
struct HistorySlice {
  const std::int32_t* items;
  int n;
};

__device__ __forceinline__ HistorySlice history_of(const Histories& histories, std::int64_t s) {
  std::int64_t n = histories.lengths[s], start = histories.starts[s];
  n = n < 1 ? 1 : n > histories.max_length ? histories.max_length : n;
  n = n > histories.logged ? histories.logged : n;
  start = start < 0 ? 0 : start > histories.logged - n ? histories.logged - n : start;
  return {histories.items + start, static_cast<int>(n)};
}

// Key `j` of a view; mask and reorder order positions by (key, j).
__device__ __forceinline__ std::uint32_t key_of(const AugmentParams& params, std::uint32_t row,
                                                int view, int j) {
  const PhiloxBlock block =
      view_keys(params.seed, static_cast<std::uint32_t>(j / 4), row, params.batch, view);
  return j % 4 == 0   ? block.word[0]
         : j % 4 == 1 ? block.word[1]
         : j % 4 == 2 ? block.word[2]
                      : block.word[3];
}

// Calls visit(j, rank) for j = 0 .. count - 1, one lane each, where rank is j's place in the order
// of (key, j). By comparing all pairs: count is a few dozen.
template <typename Visit>
__device__ __forceinline__ void for_each_rank(const AugmentParams& params, std::uint32_t row,
                                              int view, int count, Visit&& visit) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  for (int first = 0; first < count; first += kWarpSize) {
    const int j = first + lane;
    const std::uint32_t key = key_of(params, row, view, j);
    int rank = 0;
    for (int other_first = 0; other_first < count; other_first += kWarpSize) {
      const std::uint32_t others =
          other_first == first ? key : key_of(params, row, view, other_first + lane);
      for (int i = 0; i < kWarpSize && other_first + i < count; ++i) {
        const std::uint32_t other = __shfl_sync(kFullWarp, others, i);
        rank += other < key || (other == key && other_first + i < j);
      }
    }
    if (j < count) visit(j, rank);
  }
}

// Lays the row's view out in shared memory, [view tokens], and returns how many tokens it has
// before masked ones leave. By one warp; the warp is in step when it returns.
__device__ __forceinline__ int build_view(const Histories& histories, const AugmentParams& params,
                                          std::int64_t row, std::int32_t* view_items) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int view = static_cast<int>(row / histories.count) - 1;  // -1: the history itself
  const std::int64_t s = row % histories.count;
  const HistorySlice history = history_of(histories, s);
  const std::uint32_t sample = static_cast<std::uint32_t>(s);
  ViewPlan plan = {kKeep, 0, 0};
  if (view >= 0) {
    ViewPlan plans[2];
    plan_views(params.seed, sample, params.batch, history.n, params.ratios, plans);
    plan = view == 0 ? plans[0] : plans[1];
  }
  const int length = view_length(plan, history.n);
  const int source = plan.op == kCrop ? plan.start : 0;
  for (int j = lane; j < length; j += kWarpSize) view_items[j] = history.items[source + j];
  __syncwarp();
  if (plan.op == kMask && plan.count > 0) {
    for_each_rank(params, sample, view, history.n, [&](int j, int rank) {
      if (rank < plan.count) view_items[j] = 0;
    });
  } else if (plan.op == kReorder) {
    for_each_rank(params, sample, view, plan.count, [&](int j, int rank) {
      view_items[plan.start + rank] = history.items[plan.start + j];
    });
  }
  __syncwarp();
  return length;
}

// Whether token j of a row stays: everything of a history; of a view, a masked token only if last.
__device__ __forceinline__ bool stays(bool is_view, int j, int length, std::int32_t item) {
  return j < length && (!is_view || item != 0 || j == length - 1);
}

// Tokens of every row and of every block of rows. Grid: blocks of kAugmentRows rows.
__global__ void __launch_bounds__(kAugmentWarps* kWarpSize)
    view_lengths_kernel(Histories histories, AugmentParams params, RowTokens tokens) {
  MCLREC_DYNAMIC_SHARED(std::int32_t, shared);  // [warps][max_length]
  MCLREC_SHARED(std::int32_t, warp_total, [kAugmentWarps]);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  const std::int64_t rows = (1 + params.views) * histories.count;
  std::int32_t* view_items = shared + static_cast<std::int64_t>(warp) * histories.max_length;
  int total = 0;
  for (int r = warp; r < kAugmentRows; r += warps) {
    const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kAugmentRows + r;
    if (row >= rows) break;
    const int length = build_view(histories, params, row, view_items);
    int count = 0;
    for (int first = 0; first < length; first += kWarpSize) {
      const int j = first + lane;
      const bool kept = stays(row >= histories.count, j, length, j < length ? view_items[j] : 0);
      count += __popc(__ballot_sync(kFullWarp, kept));
    }
    if (lane == 0) tokens.of_row[row] = count;
    total += count;
    __syncwarp();
  }
  if (lane == 0) warp_total[warp] = total;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < warps; ++w) total += warp_total[w];
  tokens.of_block[blockIdx.x] = total;
}

// Tokens of all rows before this block's, by the whole block.
__device__ __forceinline__ int tokens_before(const RowTokens& tokens, std::int32_t* warp_sum) {
  int sum = 0;
  for (unsigned b = threadIdx.x; b < blockIdx.x; b += blockDim.x) sum += tokens.of_block[b];
  sum = group_sum<kWarpSize>(sum);
  if (threadIdx.x % kWarpSize == 0) warp_sum[threadIdx.x / kWarpSize] = sum;
  __syncthreads();
  int total = 0;
  for (unsigned w = 0; w < blockDim.x / kWarpSize; ++w) total += warp_sum[w];
  return total;
}

// Offsets and tokens. Grid as for view_lengths_kernel.
__global__ void __launch_bounds__(kAugmentWarps* kWarpSize)
    write_views_kernel(Histories histories, AugmentParams params, RowTokens tokens,
                       PackedOutput output) {
  MCLREC_DYNAMIC_SHARED(std::int32_t, shared);  // [warps][max_length]
  MCLREC_SHARED(std::int32_t, warp_sum, [kAugmentWarps]);
  MCLREC_SHARED(std::int32_t, row_end, [kAugmentRows]);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  const std::int64_t rows = (1 + params.views) * histories.count;
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * kAugmentRows;
  const int before = tokens_before(tokens, warp_sum);
  if (warp == 0) {
    // Running sum of the block's row lengths: a lane a row.
    int end = first_row + lane < rows ? tokens.of_row[first_row + lane] : 0;
    for (int step = 1; step < kWarpSize; step *= 2) {
      const int left = __shfl_up_sync(kFullWarp, end, static_cast<unsigned>(step));
      if (lane >= step) end += left;
    }
    row_end[lane] = before + end;
    if (first_row + lane < rows) output.offsets[first_row + lane + 1] = before + end;
    if (first_row == 0 && lane == 0) output.offsets[0] = 0;
  }
  __syncthreads();
  std::int32_t* view_items = shared + static_cast<std::int64_t>(warp) * histories.max_length;
  for (int r = warp; r < kAugmentRows; r += warps) {
    const std::int64_t row = first_row + r;
    if (row >= rows) break;
    const int length = build_view(histories, params, row, view_items);
    int next = r == 0 ? before : row_end[r - 1];
    for (int first = 0; first < length; first += kWarpSize) {
      const int j = first + lane;
      const std::int32_t item = j < length ? view_items[j] : 0;
      const unsigned kept =
          __ballot_sync(kFullWarp, stays(row >= histories.count, j, length, item));
      if (kept >> lane & 1u) {
        const int to = next + __popc(kept & ((1u << lane) - 1u));
        output.items[to] = item;
        output.positions[to] = j;
      }
      next += __popc(kept);
    }
    __syncwarp();
  }
}

static_assert(kAugmentRows == kWarpSize, "the running sum takes a lane a row");

}  // namespace mclrec::cuda
