// Full ranking of one target per row on the CPU. No [rows, items] matrix: scores are counted where
// they are made. Torch-free; float and double.
#pragma once

#include <cstdint>

namespace mclrec {

template <class T>
struct TargetRankArguments {
  const T* h;                      // [B, D]
  const T* items;                  // [V, D]; row 0 is padding and is not ranked
  const int64_t* targets;          // [B], in 1 .. V-1
  const int32_t* history;          // [K], in 0 .. V-1
  const int64_t* history_offsets;  // [B + 1], ascending, in 0 .. K
  int64_t batch;                   // B
  int64_t classes;                 // V
  int64_t depth;                   // D
  int64_t* ranks;  // out [4, B]: rank and ties, then both without the history; -1 in a row with a
                   // score that is not finite
};

// Rank = items scoring strictly higher + half the ties, rounded down. Indices must have been
// checked. The result does not depend on the number of threads or on the other rows.
template <class T>
void target_rank_cpu(const TargetRankArguments<T>& arguments);

}  // namespace mclrec
