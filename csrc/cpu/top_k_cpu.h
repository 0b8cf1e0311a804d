// The k best items of each row on the CPU, every item scored, no [rows, items] matrix. Torch-free;
// float and double.
#pragma once

#include <cstdint>

namespace mclrec {

template <class T>
struct TopKArguments {
  const T* h;                      // [B, D]
  const T* items;                  // [V, D]; row 0 is padding and is never returned
  const int32_t* exclude;          // [K], in 0 .. V-1
  const int64_t* exclude_offsets;  // [B + 1], ascending, in 0 .. K
  int64_t batch;                   // B
  int64_t classes;                 // V
  int64_t depth;                   // D
  int64_t k;
  T* scores;            // out [B, k], descending, ties by the lower item, then -infinity
  int64_t* best_items;  // out [B, k], then 0; -1 in a row with a score that is not finite
};

// Indices must have been checked. The result does not depend on the number of threads or on the
// other rows.
template <class T>
void top_k_cpu(const TopKArguments<T>& arguments);

}  // namespace mclrec
