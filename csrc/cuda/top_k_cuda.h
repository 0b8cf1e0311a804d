// Launcher of the k best items a row; torch-free.
#pragma once

#include "../shared/ranking.h"
#include "context.h"

namespace mclrec::cuda {

template <typename Real>
void top_k(const TopKArguments<Real>& job, Context& context);

}  // namespace mclrec::cuda
