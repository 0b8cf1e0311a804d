// Cross-entropy over the whole catalogue on the CPU, loss and gradients in one call; torch-free.
#pragma once

#include "../shared/item_cross_entropy.h"

namespace mclrec {

// T is float or double.
template <class T>
void item_cross_entropy(const ItemCrossEntropyParams<T>& params);

}  // namespace mclrec
