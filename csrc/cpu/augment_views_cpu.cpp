// augment_views and gather_sequences. Blocks of rows are independent tasks: a task writes its views
// tightly into the block's own part of the output (every row has max_length slots there), and a
// last serial sweep moves the blocks together. Integers only, so there is one variant for all CPUs.
#include "augment_views_cpu.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "../shared/rounding.h"
#include "parallel.h"

namespace mclrec {
namespace {

constexpr int64_t kBlockRows = 64;

// Sorts keys ascending: insertion for the usual few, the library beyond.
void sort_keys(uint64_t* keys, int32_t n) {
  if (n > 32) {
    std::sort(keys, keys + n);
    return;
  }
  for (int32_t i = 1; i < n; ++i) {
    const uint64_t key = keys[i];
    int32_t j = i;
    for (; j > 0 && keys[j - 1] > key; --j) keys[j] = keys[j - 1];
    keys[j] = key;
  }
}

// One task's scratch.
struct Scratch {
  std::vector<uint64_t> keys;  // [max_length rounded up to a Philox block], (key << 32) | index
  std::vector<int32_t> view;   // [max_length]
};

// The indices 0 .. n - 1 in the order of (key, index), in the low halves of scratch.keys.
void order_indices(const AugmentParams& params, uint32_t row, int view, int32_t n,
                   std::vector<uint64_t>& keys) {
  for (int32_t j = 0; j < n; j += 4) {
    const PhiloxBlock block =
        view_keys(params.seed, static_cast<uint32_t>(j / 4), row, params.batch, view);
    for (int32_t i = 0; i < 4; ++i) {
      keys[j + i] = static_cast<uint64_t>(block.word[i]) << 32 | static_cast<uint32_t>(j + i);
    }
  }
  sort_keys(keys.data(), n);
}

// One row's view of its history.
struct View {
  const int32_t* history;
  int32_t tokens;  // of the history
  uint32_t row;
  int number;
};

// Writes one view at (items, positions), masked tokens left out unless last; returns its tokens.
int32_t write_view(const AugmentParams& params, const ViewPlan& plan, const View& view,
                   Scratch& scratch, int32_t* items, int32_t* positions) {
  const int32_t* history = view.history;
  const int32_t n = view.tokens, length = view_length(plan, n);
  const int32_t* source = history;
  if (plan.op == kCrop) {
    source += plan.start;
  } else if (plan.count > 0) {
    source = scratch.view.data();
    std::copy_n(history, n, scratch.view.data());
    if (plan.op == kMask) {
      order_indices(params, view.row, view.number, n, scratch.keys);
      for (int32_t i = 0; i < plan.count; ++i) {
        scratch.view[static_cast<uint32_t>(scratch.keys[i])] = 0;
      }
    } else {
      order_indices(params, view.row, view.number, plan.count, scratch.keys);
      for (int32_t i = 0; i < plan.count; ++i) {
        scratch.view[plan.start + i] = history[plan.start + static_cast<uint32_t>(scratch.keys[i])];
      }
    }
  }
  int32_t written = 0;
  for (int32_t j = 0; j < length; ++j) {
    items[written] = source[j];
    positions[written] = j;
    written += source[j] != 0 || j == length - 1;
  }
  return written;
}

// offsets[1 ..] = running sum of the histories' lengths.
void history_offsets(const Histories& histories, int32_t* offsets) {
  offsets[0] = 0;
  for (int64_t s = 0; s < histories.count; ++s) offsets[s + 1] = offsets[s] + histories.lengths[s];
}

void copy_history(const Histories& histories, int64_t s, const PackedOutput& output) {
  const int32_t n = histories.lengths[s], begin = output.offsets[s];
  std::copy_n(histories.items + histories.starts[s], n, output.items + begin);
  for (int32_t j = 0; j < n; ++j) output.positions[begin + j] = j;
}

int64_t block_count(const Histories& histories) { return ceil_div(histories.count, kBlockRows); }

// Zeroes the capacity behind the last token.
void clear_tail(const Histories& histories, int64_t rows, const PackedOutput& output) {
  const int64_t used = output.offsets[rows], capacity = rows * histories.max_length;
  std::fill(output.items + used, output.items + capacity, 0);
  std::fill(output.positions + used, output.positions + capacity, 0);
}

}  // namespace

void gather_sequences_cpu(const Histories& histories, const PackedOutput& output) {
  history_offsets(histories, output.offsets);
  parallel_tasks(block_count(histories), [&](int64_t block, int) {
    const int64_t end = std::min(histories.count, (block + 1) * kBlockRows);
    for (int64_t s = block * kBlockRows; s < end; ++s) copy_history(histories, s, output);
  });
  clear_tail(histories, histories.count, output);
}

void augment_views_cpu(const Histories& histories, const AugmentParams& params,
                       const PackedOutput& output) {
  const int64_t count = histories.count, blocks = block_count(histories);
  const int64_t capacity = histories.max_length;
  history_offsets(histories, output.offsets);
  // Tokens of each view, in the place of the offset it will become.
  int32_t* const lengths = output.offsets + count + 1;  // [2 S]
  std::vector<int32_t> block_tokens(static_cast<size_t>(2 * blocks));
  parallel_tasks(blocks, [&](int64_t block, int) {
    const int64_t begin = block * kBlockRows, end = std::min(count, begin + kBlockRows);
    Scratch scratch{std::vector<uint64_t>(static_cast<size_t>(capacity + 3)),
                    std::vector<int32_t>(static_cast<size_t>(capacity))};
    int64_t cursor[2] = {(count + begin) * capacity, (2 * count + begin) * capacity};
    for (int64_t s = begin; s < end; ++s) {
      copy_history(histories, s, output);
      ViewPlan plans[2];
      const uint32_t row = static_cast<uint32_t>(s);
      const int32_t n = histories.lengths[s];
      plan_views(params.seed, row, params.batch, n, params.ratios, plans);
      for (int view = 0; view < 2; ++view) {
        const int32_t written =
            write_view(params, plans[view],
                       {.history = histories.items + histories.starts[s],
                        .tokens = n,
                        .row = row,
                        .number = view},
                       scratch, output.items + cursor[view], output.positions + cursor[view]);
        lengths[view * count + s] = written;
        cursor[view] += written;
        block_tokens[static_cast<size_t>(view * blocks + block)] += written;
      }
    }
  });

  // Blocks move left only, in rising order, so none is overwritten before it has moved.
  int64_t target = output.offsets[count];
  for (int64_t piece = 0; piece < 2 * blocks; ++piece) {
    const int64_t view = piece / blocks, block = piece % blocks;
    const int64_t from = ((1 + view) * count + block * kBlockRows) * capacity;
    const size_t tokens = static_cast<size_t>(block_tokens[static_cast<size_t>(piece)]);
    std::memmove(output.items + target, output.items + from, tokens * sizeof(int32_t));
    std::memmove(output.positions + target, output.positions + from, tokens * sizeof(int32_t));
    target += static_cast<int64_t>(tokens);
  }
  for (int64_t row = count; row < 3 * count; ++row) output.offsets[row + 1] += output.offsets[row];
  clear_tail(histories, 3 * count, output);
}

}  // namespace mclrec
