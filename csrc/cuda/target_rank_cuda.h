// Launchers of the full ranking of one target a row; torch-free.
#pragma once

#include <cstdint>

namespace mclrec::cuda {

template <typename Real>
struct TargetRank {
  const Real* h;                         // [B, D]
  const Real* items;                     // [V, D]
  const std::int64_t* targets;           // [B] in 1 .. V-1
  const std::int32_t* history;           // [K] items that leave the masked ranking
  const std::int64_t* history_offsets;   // [B + 1]
  std::int64_t batch, classes, entries;  // B, V, K
  int depth;                             // D
  std::int32_t* scratch;                 // [target_rank_scratch()]
  std::int64_t* ranks;                   // [4, B]: rank, ties; masked rank, ties; -1: not finite
};

std::int64_t target_rank_scratch(std::int64_t batch, std::int64_t classes);

template <typename Real>
void target_rank(const TargetRank<Real>& job, void* stream);

}  // namespace mclrec::cuda
