// What augment_views and gather_sequences are given, on the CPU and on CUDA.
#pragma once

#include <cstdint>

#include "augment_plan.h"

namespace mclrec {

// S histories, each a slice of the log. The CPU's are checked; on CUDA starts and lengths are
// clamped to the log where they are read.
struct Histories {
  const int32_t* items;    // [I], the log
  const int64_t* starts;   // [S], 0 <= start, start + length <= I
  const int32_t* lengths;  // [S], 1 <= length <= max_length
  int64_t logged;          // I
  int64_t count;           // S
  int64_t max_length;      // L
};

struct AugmentParams {
  AugmentRatios ratios;
  uint64_t seed;
  uint32_t batch;
  int32_t views;  // of each history: 2, or 0 to gather the histories alone
};

// Where packed sequences go: the S histories, then S first and S second views; R = (1 + views) S.
// Tokens beyond offsets[R] are zero.
struct PackedOutput {
  int32_t* items;      // [R L]
  int32_t* positions;  // [R L]
  int32_t* offsets;    // [R + 1]
};

}  // namespace mclrec
