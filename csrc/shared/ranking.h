// What target_rank and top_k are given, on the CPU and on CUDA. The CPU's indices are checked; on
// CUDA offsets are clamped to the entries there are, and items outside the table are ignored.
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
  int64_t hidden;                  // D
  int64_t entries;                 // K
  int64_t* ranks;  // out [4, B]: rank and ties, then both without the history; -1 in a row with a
                   // score that is not finite
};

template <class T>
struct TopKArguments {
  const T* h;                      // [B, D]
  const T* items;                  // [V, D]; row 0 is padding and is never returned
  const int32_t* exclude;          // [K], in 0 .. V-1
  const int64_t* exclude_offsets;  // [B + 1], ascending, in 0 .. K
  const int32_t* candidates;  // [A], ascending, in 1 .. V-1: what may be returned; null for all
  int64_t batch;              // B
  int64_t classes;            // V
  int64_t hidden;             // D
  int64_t entries;            // K
  int64_t candidate_count;    // A; V - 1 where all items may be returned
  int64_t k;
  T* scores;            // out [B, k], descending, ties by the lower item, then -infinity
  int64_t* best_items;  // out [B, k], then 0; -1 in a row with a score that is not finite
};

}  // namespace mclrec
