// top_k: blocking, threads and the collectors around the loops of top_k_kernels.inl.
//
// As in target_rank, a block of rows meets the items panel by panel. Tasks are row blocks times
// ranges of items (several ranges only where there are too few rows to share); each task leaves its
// k best per row, and the ranges are merged at the end.
#include "top_k_cpu.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "../shared/rounding.h"
#include "parallel.h"
#include "simd.h"

namespace mclrec::top_k {

template <class T>
struct Candidate {
  T score;
  int32_t item;
};

struct Better {
  template <class T>
  bool operator()(const Candidate<T>& a, const Candidate<T>& b) const {
    return a.score > b.score || (a.score == b.score && a.item < b.item);
  }
};

// The k best of the candidates offered so far, and some that were among the best when they came.
// Items must come in ascending order: one that only equals the k-th best has lost to it.
template <class T>
struct Collector {
  T threshold;         // only higher scores need to be offered
  Candidate<T>* kept;  // room for `capacity` > k
  int64_t size;
  int64_t k;
  int64_t capacity;
  const int32_t* excluded;  // ascending
  const int32_t* excluded_end;
  bool finite;  // every score so far

  void offer(T score, int32_t item) {
    if (!(score > threshold)) return;  // it may have risen since the tile was compared
    if (std::binary_search(excluded, excluded_end, item)) return;
    kept[size++] = {score, item};
    if (size == capacity) prune();
  }
  void prune() {
    if (size < k) return;
    std::nth_element(kept, kept + k - 1, kept + size, Better());
    size = k;
    threshold = kept[k - 1].score;
  }
};

// Where the items of a panel come from, and room for them.
template <class T>
struct Panels {
  const int32_t* ids;      // candidates, which lie anywhere in the table; null for all items
  const uint8_t* allowed;  // bit i: item i + 1 may be returned; null for all
  T* panel;                // [D, columns of a register tile]
  T* gathered;             // the same size, where there are ids

  // Bit j: column j, which is item at + j + 1, may be returned. `width` is at most 32.
  uint32_t allowed_bits(int64_t at, int64_t width) const {
    const uint32_t all = ~uint32_t{0} >> (32 - width);
    if (allowed == nullptr) return all;
    uint64_t bits;
    std::memcpy(&bits, allowed + at / 8, sizeof bits);
    return static_cast<uint32_t>(bits >> (at % 8)) & all;
  }
};

}  // namespace mclrec::top_k

#define MCLREC_OP top_k
#define MCLREC_KERNELS "../top_k_kernels.inl"
#include "isa/each_set.inl"

namespace mclrec {
namespace {

using top_k::Candidate;
using top_k::Collector;
using top_k::Panels;

constexpr int64_t kBlockRows = 240;
constexpr int64_t kFewestRows = 48;            // in a block; below, packing the items shows
constexpr int64_t kBlockCandidates = 1 << 20;  // of all rows of a block
constexpr int64_t kFewestItems = 2048;         // in a range; below, splitting does not pay
constexpr int64_t kNotFinite = -1;             // some score is not
constexpr int64_t kRun = 32;                   // candidates looked at together for gaps
constexpr int64_t kMostGaps = 4;  // one item of so many missing: scored all the same, and masked

template <class T>
class TopK {
 public:
  explicit TopK(const TopKArguments<T>& arguments)
      : a(arguments),
        top_k_block(MCLREC_PICK(top_k, top_k_block<T>)),
        k(std::min(a.k, a.candidate_count)),
        capacity(k + std::clamp(k, int64_t{32}, int64_t{4096})),
        block(rows_of_a_block()),
        blocks(ceil_div(a.batch, block)),
        masked(a.candidates && a.candidate_count >= a.classes - 1 - a.classes / kMostGaps),
        items(masked ? a.classes - 1 : a.candidate_count),
        splits(std::clamp(worker_count() / blocks, int64_t{1}, ceil_div(items, kFewestItems))) {}

  void run() {
    sort_exclusions();
    if (masked) mark_allowed();
    best.resize(static_cast<size_t>(splits * a.batch * k));
    found.resize(static_cast<size_t>(splits * a.batch));
    const int64_t range = ceil_div(items, splits);
    std::vector<Scratch> scratch(static_cast<size_t>(worker_count()));
    parallel_tasks(blocks * splits, [&](int64_t task, int worker) {
      const int64_t split = task % splits, first = std::min(split * range, items);
      search(task / splits * block, split, first, std::min(first + range, items),
             scratch[static_cast<size_t>(worker)]);
    });
    parallel_tasks(blocks, [this](int64_t task, int) {
      const int64_t last = std::min((task + 1) * block, a.batch);
      for (int64_t row = task * block; row < last; ++row) merge(row);
    });
  }

 private:
  struct Scratch {
    std::vector<Collector<T>> collectors;  // [block]
    std::vector<Candidate<T>> candidates;  // [block, capacity]
    std::vector<T> panel;                  // [D, columns of a register tile]
    std::vector<T> gathered;               // [columns of a register tile, D]
  };

  // Equal blocks, as many for every thread where there are rows enough.
  int64_t rows_of_a_block() const {
    const int64_t tile = isa_facts(selected_isa()).tile_rows;
    const int64_t most = std::clamp(kBlockCandidates / capacity / tile * tile, tile, kBlockRows);
    const int64_t workers = worker_count(), fewest = ceil_div(a.batch, most);
    const int64_t wanted =
        std::clamp(a.batch / kFewestRows, fewest, ceil_div(fewest, workers) * workers);
    return std::min(most, ceil_div(ceil_div(a.batch, wanted), tile) * tile);
  }

  void sort_exclusions() {
    const int64_t first = a.exclude_offsets[0], last = a.exclude_offsets[a.batch];
    excluded.assign(a.exclude + first, a.exclude + last);
    parallel_tasks(blocks, [&](int64_t task, int) {
      const int64_t end = std::min((task + 1) * block, a.batch);
      for (int64_t row = task * block; row < end; ++row) {
        std::sort(excluded.begin() + (a.exclude_offsets[row] - first),
                  excluded.begin() + (a.exclude_offsets[row + 1] - first));
      }
    });
  }

  // Few items are missing: where they are is quicker asked than the others gathered. They are found
  // between candidates that are no neighbours, a run of candidates at a time.
  void mark_allowed() {
    allowed.assign(static_cast<size_t>(items / 8) + sizeof(uint64_t) + 1, 0xff);
    int32_t before = 0;
    for (int64_t at = 0; at < a.candidate_count; at += kRun) {
      const int64_t end = std::min(at + kRun, a.candidate_count);
      const int32_t last = a.candidates[end - 1];
      if (last - before != end - at) {
        for (int64_t i = at; i < end; ++i) {
          forbid(before + 1, a.candidates[i]);
          before = a.candidates[i];
        }
      }
      before = last;
    }
    forbid(before + 1, static_cast<int32_t>(items) + 1);
  }

  // None of the items first .. end - 1 may be returned.
  void forbid(int32_t first, int32_t end) {
    for (int32_t item = first; item < end; ++item) {
      const int32_t at = item - 1;
      allowed[static_cast<size_t>(at / 8)] &= static_cast<uint8_t>(~(1 << at % 8));
    }
  }

  // The best of the items (or candidates) number first .. last - 1 for one block of rows.
  void search(int64_t first_row, int64_t split, int64_t first, int64_t last, Scratch& scratch) {
    const int64_t rows = std::min(block, a.batch - first_row);
    scratch.collectors.resize(static_cast<size_t>(block));
    scratch.candidates.resize(static_cast<size_t>(block * capacity));
    const int64_t tile_columns = 2 * isa_facts(selected_isa()).vector_bytes / sizeof(T);
    scratch.panel.resize(static_cast<size_t>(a.hidden * tile_columns));
    const bool gather = a.candidates && !masked;
    if (gather) scratch.gathered.resize(scratch.panel.size());
    const auto exclusions = [this](int64_t row) {
      return excluded.data() + (a.exclude_offsets[row] - a.exclude_offsets[0]);
    };
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t row = first_row + i;
      scratch.collectors[static_cast<size_t>(i)] = {-std::numeric_limits<T>::infinity(),
                                                    scratch.candidates.data() + i * capacity,
                                                    0,
                                                    k,
                                                    capacity,
                                                    exclusions(row),
                                                    exclusions(row + 1),
                                                    true};
    }
    const Panels<T> panels{gather ? a.candidates : nullptr, masked ? allowed.data() : nullptr,
                           scratch.panel.data(), scratch.gathered.data()};
    top_k_block(a, first_row, rows, first, last, scratch.collectors.data(), panels);
    for (int64_t i = 0; i < rows; ++i) {
      Collector<T>& collector = scratch.collectors[static_cast<size_t>(i)];
      collector.prune();
      const int64_t at = split * a.batch + first_row + i;
      std::copy(collector.kept, collector.kept + collector.size, best.data() + at * k);
      found[static_cast<size_t>(at)] = collector.finite ? collector.size : kNotFinite;
    }
  }

  // Joins the ranges of one row, in order, into the output.
  void merge(int64_t row) {
    std::vector<Candidate<T>> all;
    bool bad = false;
    for (int64_t split = 0; split < splits; ++split) {
      const int64_t at = split * a.batch + row;
      const Candidate<T>* from = best.data() + at * k;
      const int64_t size = found[static_cast<size_t>(at)];
      bad = bad || size == kNotFinite;
      if (!bad) all.insert(all.end(), from, from + size);
    }
    std::sort(all.begin(), all.end(), top_k::Better());
    for (int64_t place = 0; place < a.k; ++place) {
      const bool is_found = !bad && place < std::min<int64_t>(k, static_cast<int64_t>(all.size()));
      T& score = a.scores[row * a.k + place];
      int64_t& item = a.best_items[row * a.k + place];
      score =
          is_found ? all[static_cast<size_t>(place)].score : -std::numeric_limits<T>::infinity();
      item = is_found ? all[static_cast<size_t>(place)].item : (bad ? -1 : 0);
    }
  }

  const TopKArguments<T>& a;
  void (*top_k_block)(const TopKArguments<T>&, int64_t, int64_t, int64_t, int64_t, Collector<T>*,
                      const Panels<T>&);
  const int64_t k;         // as asked for, but no more than there are candidates
  const int64_t capacity;  // of a collector
  const int64_t block;     // rows of a task
  const int64_t blocks;
  const bool masked;    // all items are looked at, those that are no candidates left out
  const int64_t items;  // looked at
  const int64_t splits;
  std::vector<uint8_t> allowed;    // see Panels
  std::vector<int32_t> excluded;   // [K], ascending within each row
  std::vector<Candidate<T>> best;  // [splits, B, k]
  std::vector<int64_t> found;      // [splits, B], how many of them, or kNotFinite
};

}  // namespace

template <class T>
void top_k_cpu(const TopKArguments<T>& arguments) {
  const TopKArguments<T>& a = arguments;
  if (a.batch == 0 || a.k == 0) return;
  if (a.candidate_count > 0) {
    TopK<T>(a).run();
    return;
  }
  std::fill_n(a.scores, a.batch * a.k, -std::numeric_limits<T>::infinity());
  std::fill_n(a.best_items, a.batch * a.k, 0);
}

template void top_k_cpu<float>(const TopKArguments<float>&);
template void top_k_cpu<double>(const TopKArguments<double>&);

}  // namespace mclrec
