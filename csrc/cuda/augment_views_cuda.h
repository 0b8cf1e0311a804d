// Launchers of augment_views and gather_sequences on CUDA; torch-free, device pointers throughout.
#pragma once

#include <cstdint>

#include "../shared/augment_plan.h"

namespace mclrec::cuda {

// Slices of the log. Lengths and starts are clamped to the log on the device, so that wrong ones
// give wrong views, never an access out of bounds.
struct Histories {
  const std::int32_t* items;    // [I]
  const std::int64_t* starts;   // [S]
  const std::int32_t* lengths;  // [S]
  std::int64_t logged;          // I
  std::int64_t count;           // S
  std::int32_t max_length;      // L
};

// Random choices; `views` is 2 for augment_views and 0 for gather_sequences.
struct AugmentParams {
  AugmentRatios ratios;
  std::uint64_t seed;
  std::uint32_t batch;
  std::int32_t views;
};

// Rows are the S histories, then S first and S second views; R = (1 + views) S.
struct PackedOutput {
  std::int32_t* items;      // [R L], zeroed by the caller
  std::int32_t* positions;  // [R L], zeroed by the caller
  std::int32_t* offsets;    // [R + 1]
  std::int32_t* lengths;    // [R] scratch
  std::int32_t* totals;     // [augment_blocks(R)] scratch: tokens of each block of rows
};

// Blocks of rows, each with one entry in `totals`.
std::int64_t augment_blocks(std::int64_t rows);

// Longest history whose views fit in shared memory.
inline constexpr std::int32_t kLongestHistory = 40000;

void augment_views(const Histories& histories, const AugmentParams& params,
                   const PackedOutput& output, void* stream);

}  // namespace mclrec::cuda
