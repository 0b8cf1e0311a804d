// target_rank: blocking, threads and the bookkeeping around the loops of target_rank_kernels.inl.
//
// A block of rows (a quarter of a megabyte of h, which stays in L2) meets the items one panel of a
// register tile's width at a time (packed once per block, in L1). Tasks are row blocks times a few
// ranges of items; their counts are integers, so the order of adding them does not matter.
#include "target_rank_cpu.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "../shared/rounding.h"
#include "finite_scores.h"
#include "parallel.h"
#include "simd.h"

namespace mclrec {

// Rows of h against a range of items, and where their counts go.
template <class T>
struct RankBlock {
  const T* h;  // [rows, hidden]
  int64_t rows;
  const T* items;  // [V, hidden]
  int64_t first, last;
  int64_t hidden;
  const T* target;  // [rows] scores
  int64_t* higher;  // [rows]
  int64_t* equal;   // [rows]
  void* scratch;    // aligned to a vector: counters of the rows, then a panel of items
};

}  // namespace mclrec

#define MCLREC_OP target_rank
#define MCLREC_KERNELS "../target_rank_kernels.inl"
#include "isa/each_set.inl"

namespace mclrec {
namespace {

constexpr int64_t kBlockBytes = 256 * 1024;
constexpr int64_t kRowsPerPreparation = 64;
constexpr int64_t kTasksPerWorker = 8;
constexpr int64_t kFewestItems = 512;  // in a task; below, packing is not worth its while

template <class T>
class Ranking {
 public:
  explicit Ranking(const TargetRankArguments<T>& arguments)
      : a(arguments),
        fixed_order{MCLREC_PICK(target_rank, pair_scores<T>),
                    MCLREC_PICK(target_rank, magnitude_sum<T>),
                    MCLREC_PICK(target_rank, largest_magnitude<T>)},
        finite(fixed_order, a.items, a.classes, a.hidden),
        rank_block(MCLREC_PICK(target_rank, rank_block<T>)),
        target_scores(static_cast<size_t>(a.batch)),
        seen_higher(static_cast<size_t>(a.batch)),
        seen_equal(static_cast<size_t>(a.batch)) {}

  void run() {
    parallel_tasks(ceil_div(a.batch, kRowsPerPreparation), [this](int64_t task, int) {
      const int64_t first = task * kRowsPerPreparation;
      const int64_t last = std::min(first + kRowsPerPreparation, a.batch);
      for (int64_t row = first; row < last; ++row) prepare(row);
    });
    count();
    combine();
  }

 private:
  const T* item(int64_t index) const { return a.items + index * a.hidden; }

  // Everything about a row that needs single scores: the target's, and how the history's items
  // compare with it.
  void prepare(int64_t row) {
    const T* h = a.h + row * a.hidden;
    seen_higher[row] = finite.row(h) ? 0 : -1;
    seen_equal[row] = 0;
    std::vector<int32_t> seen(a.history + a.history_offsets[row],
                              a.history + a.history_offsets[row + 1]);
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    std::vector<const T*> vectors{item(a.targets[row])};
    for (const int32_t index : seen) {
      if (index != 0 && index != a.targets[row]) vectors.push_back(item(index));
    }
    std::vector<T> scores(vectors.size());
    fixed_order.pair_scores(h, vectors.data(), static_cast<int64_t>(vectors.size()), a.hidden,
                            scores.data());
    target_scores[row] = scores[0];
    if (seen_higher[row] < 0) return;
    for (size_t i = 1; i < scores.size(); ++i) {
      seen_higher[row] += scores[i] > scores[0];
      seen_equal[row] += scores[i] == scores[0];
    }
  }

  void count() {
    const int64_t row_bytes = a.hidden * static_cast<int64_t>(sizeof(T));
    const IsaFacts& isa = isa_facts(selected_isa());
    const int64_t block = std::clamp(kBlockBytes / row_bytes / isa.tile_rows * isa.tile_rows,
                                     int64_t{48}, int64_t{1536});
    const int64_t blocks = ceil_div(a.batch, block);
    const int64_t workers = worker_count();
    splits = std::clamp(kTasksPerWorker * workers / std::max<int64_t>(blocks, 1), int64_t{1},
                        ceil_div(a.classes, kFewestItems));
    const int64_t range = ceil_div(a.classes - 1, splits);
    higher.resize(static_cast<size_t>(splits * a.batch));
    equal.resize(static_cast<size_t>(splits * a.batch));
    // Per row two vectors of counters; then one panel, two vectors of each item's coordinate.
    const int64_t scratch_bytes = ceil_div(2 * isa.vector_bytes * (block + a.hidden), 64) * 64;
    const std::unique_ptr<char[]> scratch(
        new char[static_cast<size_t>(workers * scratch_bytes + 64)]);
    char* const aligned = scratch.get() + (64 - reinterpret_cast<uintptr_t>(scratch.get()) % 64);
    parallel_tasks(blocks * splits, [&](int64_t task, int worker) {
      const int64_t row = task / splits * block, split = task % splits;
      const int64_t first = 1 + split * range, last = std::min(first + range, a.classes);
      const int64_t at = split * a.batch + row;
      rank_block({.h = a.h + row * a.hidden,
                  .rows = std::min(block, a.batch - row),
                  .items = a.items,
                  .first = first,
                  .last = last,
                  .hidden = a.hidden,
                  .target = target_scores.data() + row,
                  .higher = higher.data() + at,
                  .equal = equal.data() + at,
                  .scratch = aligned + worker * scratch_bytes});
    });
  }

  void combine() {
    for (int64_t row = 0; row < a.batch; ++row) {
      int64_t above = 0, same = -1;  // the target equals itself
      for (int64_t split = 0; split < splits; ++split) {
        above += higher[split * a.batch + row];
        same += equal[split * a.batch + row];
      }
      const bool bad = seen_higher[row] < 0;
      const int64_t left = above - seen_higher[row], same_left = same - seen_equal[row];
      a.ranks[row] = bad ? -1 : above + same / 2;
      a.ranks[a.batch + row] = bad ? -1 : same;
      a.ranks[2 * a.batch + row] = bad ? -1 : left + same_left / 2;
      a.ranks[3 * a.batch + row] = bad ? -1 : same_left;
    }
  }

  const TargetRankArguments<T>& a;
  const FixedOrder<T> fixed_order;
  const FiniteScores<T> finite;
  void (*rank_block)(const RankBlock<T>&);
  std::vector<T> target_scores;      // [B]
  std::vector<int64_t> seen_higher;  // [B], items of the history above the target; -1: not finite
  std::vector<int64_t> seen_equal;   // [B]
  std::vector<int64_t> higher;       // [splits, B]
  std::vector<int64_t> equal;        // [splits, B]
  int64_t splits = 1;
};

}  // namespace

template <class T>
void target_rank_cpu(const TargetRankArguments<T>& arguments) {
  if (arguments.batch > 0) Ranking<T>(arguments).run();
}

template void target_rank_cpu<float>(const TargetRankArguments<float>&);
template void target_rank_cpu<double>(const TargetRankArguments<double>&);

}  // namespace mclrec
