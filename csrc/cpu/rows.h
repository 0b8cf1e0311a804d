// Views that kernels pass instead of bare pointers and strides. They own nothing and know no
// sizes: what a kernel may read is said by the sizes that it takes beside them.
#pragma once

#include <cstdint>

namespace mclrec {

// Rows of a matrix: row r begins at at + r * stride.
template <class T>
struct Rows {
  T* at;
  int64_t stride;

  __attribute__((always_inline)) T* row(int64_t r) const { return at + r * stride; }
  // The rows from (row, column) on.
  __attribute__((always_inline)) Rows from(int64_t first_row, int64_t column) const {
    return {at + first_row * stride + column, stride};
  }
};

// c [rows, cols] = a b, a sum over `depth`.
struct ProductSize {
  int64_t rows, cols, depth;
};

}  // namespace mclrec
