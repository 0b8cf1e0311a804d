// Launchers of the k best items a row; torch-free.
#pragma once

#include <cstdint>

namespace mclrec::cuda {

template <typename Real>
struct TopK {
  const Real* h;                         // [B, D]
  const Real* items;                     // [V, D]
  const std::int32_t* exclude;           // [K] items that must not be returned
  const std::int64_t* exclude_offsets;   // [B + 1]
  std::int64_t batch, classes, entries;  // B, V, K
  int depth;                             // D
  std::int64_t k;
  Real* scratch_scores;         // [top_k_scratch().lists] and
  std::int32_t* scratch_items;  // [top_k_scratch().lists + broken]
  Real* scores;                 // [B, k] descending, ties by lower item; -inf behind the last
  std::int64_t* best_items;     // [B, k]; 0 behind the last, -1 in a row that is not finite
};

struct TopKScratch {
  std::int64_t lists;   // numbers of the lists of all parts of the catalogue
  std::int64_t broken;  // flags
};

TopKScratch top_k_scratch(std::int64_t batch, std::int64_t classes, std::int64_t k);

template <typename Real>
void top_k(const TopK<Real>& job, void* stream);

}  // namespace mclrec::cuda
