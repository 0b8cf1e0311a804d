// Cross-entropy over the whole catalogue on the CPU, loss and gradients in one call; torch-free.
#pragma once

#include <cstdint>

namespace mclrec {

// T is float or double. All arrays are dense, row-major.
template <class T>
struct ItemCrossEntropyParams {
  const T* h;              // [rows, width]
  const T* items;          // [classes, width]
  const int64_t* targets;  // [rows], each in [0, classes)
  int64_t rows;            // B
  int64_t classes;         // V
  int64_t width;           // D
  T* loss;                 // [1] mean over the rows
  T* grad_h;               // [rows, width] gradient of the loss; null if not wanted
  T* grad_items;           // [classes, width]; null if not wanted
};

template <class T>
void item_cross_entropy(const ItemCrossEntropyParams<T>& params);

}  // namespace mclrec
