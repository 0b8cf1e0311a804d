// The k best items of each row on the CPU, every item scored, no [rows, items] matrix. Torch-free;
// float and double.
#pragma once

#include "../shared/ranking.h"

namespace mclrec {

// Indices must have been checked. The result does not depend on the number of threads or on the
// other rows.
template <class T>
void top_k_cpu(const TopKArguments<T>& arguments);

}  // namespace mclrec
