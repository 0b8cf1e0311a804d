// Launcher of the cross-entropy over the catalogue: loss and gradients; torch-free.
#pragma once

#include "../shared/item_cross_entropy.h"
#include "context.h"

namespace mclrec::cuda {

template <typename Real>
void item_cross_entropy(const ItemCrossEntropyParams<Real>& params, Context& context);

}  // namespace mclrec::cuda
