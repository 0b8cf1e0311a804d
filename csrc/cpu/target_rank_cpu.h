// Full ranking of one target per row on the CPU. No [rows, items] matrix: scores are counted where
// they are made. Torch-free; float and double.
#pragma once

#include "../shared/ranking.h"

namespace mclrec {

// Rank = items scoring strictly higher + half the ties, rounded down. Indices must have been
// checked. The result does not depend on the number of threads or on the other rows.
template <class T>
void target_rank_cpu(const TargetRankArguments<T>& arguments);

}  // namespace mclrec
