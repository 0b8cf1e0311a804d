// Histories and their two augmented views as packed sequences, on the CPU. Raw pointers, checked by
// the caller; outputs are equal to the bit for any number of threads.
#pragma once

#include <cstdint>

#include "../shared/augment_plan.h"

namespace mclrec {

// S histories, each a slice of the log.
struct Histories {
  const int32_t* items;    // [I], the log
  const int64_t* starts;   // [S], 0 <= start, start + length <= I
  const int32_t* lengths;  // [S], 1 <= length <= max_length
  int64_t count;           // S
  int64_t max_length;
};

// Where packed sequences go. Tokens beyond offsets[rows] are set to zero.
struct PackedOutput {
  int32_t* items;      // [rows * max_length]
  int32_t* positions;  // [rows * max_length]
  int32_t* offsets;    // [rows + 1]
};

struct AugmentParams {
  AugmentRatios ratios;
  uint64_t seed;
  uint32_t batch;
};

// rows = S: the histories.
void gather_sequences_cpu(const Histories& histories, const PackedOutput& output);

// rows = 3 S: the histories, then the first views, then the second views.
void augment_views_cpu(const Histories& histories, const AugmentParams& params,
                       const PackedOutput& output);

}  // namespace mclrec
