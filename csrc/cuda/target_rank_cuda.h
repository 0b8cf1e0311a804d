// Launcher of the full ranking of one target a row; torch-free.
#pragma once

#include "../shared/ranking.h"
#include "context.h"

namespace mclrec::cuda {

template <typename Real>
void target_rank(const TargetRankArguments<Real>& job, Context& context);

}  // namespace mclrec::cuda
