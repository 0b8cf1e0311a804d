// What item_cross_entropy is given, on the CPU and on CUDA.
#pragma once

#include <cstdint>

namespace mclrec {

// T is float or double. All arrays are dense, row-major.
template <class T>
struct ItemCrossEntropyParams {
  const T* h;              // [rows, hidden]
  const T* items;          // [classes, hidden]
  const int64_t* targets;  // [rows], each in [0, classes); on CUDA one outside makes the loss NaN
  int64_t rows;            // B
  int64_t classes;         // V
  int64_t hidden;          // D
  T* loss;                 // [1] mean over the rows
  T* grad_h;               // [rows, hidden] gradient of the loss; null if not wanted
  T* grad_items;           // [classes, hidden]; null if not wanted
};

}  // namespace mclrec
