// One tile of a block of similarities: maxima and exponential sums of its rows and columns forward,
// the gradient of its similarities backward. Works on plain arrays and knows no views or losses.
// No #include and no namespace here; after simd.inl, vector_math.inl and gemm_tile.inl.

// Stands for "no similarity here yet": below all of them, finite also after scaling.
template <class T>
constexpr T kFloor = sizeof(T) == 4 ? T(-1e30) : T(-1e300);
template <class T>
constexpr T kMinusInfinity = -std::numeric_limits<T>::infinity();

// One exponential serves a similarity's row and its column, 2^(x - shift) with one shift for the
// tile, as long as the maxima of its rows and columns lie within this many powers of two: what
// underflows then is far below the rounding of every sum. (float has 126 to spare, double 1022.)
template <class T>
constexpr T kSpread = sizeof(T) == 4 ? T(80) : T(800);

// Statistics of the rows (or columns) of a tile, or of a group of tiles, whole vectors of them.
template <class T>
struct Statistics {
  T* top;          // the largest similarity, the positive left out
  int32_t* index;  // where; null where nobody asks
  T* shift;        // of the exponentials: the largest of all, in powers of two
  T* sum;          // of 2^(similarity in powers of two - shift)
};

// In a tile on the diagonal of a self block each pair of rows occurs once, above the diagonal; the
// panels of columns then hold rows up to their own end only, and what lies below is not touched.
template <class T>
MCLREC_INLINE int64_t first_col(bool triangle, int64_t row) {
  return triangle ? row / kTileCols<T> * kTileCols<T> : 0;
}
template <class T>
MCLREC_INLINE int64_t end_row(bool triangle, int64_t col, int64_t rows) {
  return triangle ? std::min(rows, col / kTileCols<T> * kTileCols<T> + kTileCols<T>) : rows;
}

// How a tile lies in memory.
struct TileShape {
  int64_t rows, cols;
  int64_t stride;  // between its rows
  bool triangle;   // only what lies above the diagonal counts
};

// Running maxima of the rows of a tile, lane by lane.
template <class T>
struct RowMaxima {
  Vec<T> top[kMaxTile];
  IntVec<T> col[kMaxTile];  // the first of the vector in which it was found

  void start(int64_t rows) {
    for (int64_t i = 0; i < rows; ++i) {
      top[i] = broadcast(kFloor<T>);
      col[i] = IntVec<T>{};
    }
  }
};

// The largest of each column of a panel s [rows, kTileCols], and with kIndex its row, the first of
// equals; the rows' own join `maxima`, the panel standing at column `col`. NaN is passed over.
template <bool kIndex, class T>
void panel_maxima(const T* s, int64_t stride, int64_t rows, int64_t col, RowMaxima<T>& maxima,
                  T* col_top, int32_t* col_index) {
  constexpr int kL = kLanes<T>;
  using Integer = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  const IntVec<T> here = IntVec<T>{} + static_cast<Integer>(col), next = here + kL;
  Vec<T> top0 = broadcast(kFloor<T>), top1 = top0;
  IntVec<T> at0 = {}, at1 = {}, row = {};
  for (int64_t i = 0; i < rows; ++i) {
    const Vec<T> x0 = load(s + i * stride), x1 = load(s + i * stride + kL);
    if constexpr (kIndex) {
      at0 = x0 > top0 ? row : at0;
      at1 = x1 > top1 ? row : at1;
      row += 1;
      const Vec<T> both = max(x1, x0);
      const IntVec<T> where = x1 > x0 ? next : here;
      maxima.col[i] = both > maxima.top[i] ? where : maxima.col[i];
      maxima.top[i] = max(both, maxima.top[i]);
    } else {
      maxima.top[i] = max(x0, max(x1, maxima.top[i]));
    }
    top0 = max(x0, top0);
    top1 = max(x1, top1);
  }
  store(col_top, top0);
  store(col_top + kL, top1);
  if constexpr (kIndex) {
    for (int lane = 0; lane < kL; ++lane) {
      col_index[lane] = static_cast<int32_t>(at0[lane]);
      col_index[kL + lane] = static_cast<int32_t>(at1[lane]);
    }
  }
}

// The largest of each row, and with kIndex its column, the first of equals.
template <bool kIndex, class T>
void row_maxima(const RowMaxima<T>& maxima, int64_t rows, T* row_top, int32_t* row_index) {
  for (int64_t i = 0; i < rows; ++i) {
    const T top = lane_max<T>(maxima.top[i]);
    row_top[i] = top;
    if constexpr (kIndex) {
      int64_t first = kMaxTile;
      for (int lane = 0; lane < kLanes<T>; ++lane) {
        const int64_t here = maxima.col[i][lane] + lane;
        first = maxima.top[i][lane] == top && here < first ? here : first;
      }
      row_index[i] = static_cast<int32_t>(first);
    }
  }
}

// s [rows, cols] becomes 2^(scale * s - shift); sums of its rows and columns.
template <class T>
void tile_exponentials(T* s, const TileShape& shape, T scale, T shift, T* row_sum, T* col_sum) {
  constexpr int kL = kLanes<T>;
  const auto [rows, cols, stride, triangle] = shape;
  const Vec<T> factor = broadcast(scale), minus = broadcast(-shift);
  std::fill_n(col_sum, cols, T(0));
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    Vec<T> sum[4] = {};
    for (int64_t j = first_col<T>(triangle, i); j < cols; j += kL) {
      T* at = s + i * stride + j;
      Vec<T> x[4];
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) x[n] = fma(load(at + n * stride), factor, minus);
      exp2_nonpositive(x);
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) {
        store(at + n * stride, x[n]);
        sum[n] += x[n];
      }
      store(col_sum + j, load(col_sum + j) + ((x[0] + x[1]) + (x[2] + x[3])));
    }
    for (int n = 0; n < 4; ++n) row_sum[i + n] = lane_sum<T>(sum[n]);
  }
  for (; i < rows; ++i) {
    Vec<T> sum = {};
    for (int64_t j = first_col<T>(triangle, i); j < cols; j += kL) {
      const Vec<T> x = exp2_nonpositive<T>(fma(load(s + i * stride + j), factor, minus));
      store(s + i * stride + j, x);
      sum += x;
      store(col_sum + j, load(col_sum + j) + x);
    }
    row_sum[i] = lane_sum<T>(sum);
  }
}

// The sums again where the maxima are too far apart: two exponentials each, and s stays.
template <class T>
void tile_exponentials_apart(const T* s, const TileShape& shape, T scale, const T* row_shift,
                             const T* col_shift, T* row_sum, T* col_sum) {
  constexpr int kL = kLanes<T>;
  const auto [rows, cols, stride, triangle] = shape;
  const Vec<T> factor = broadcast(scale);
  std::fill_n(col_sum, cols, T(0));
  for (int64_t i = 0; i < rows; ++i) {
    Vec<T> sum = {};
    for (int64_t j = first_col<T>(triangle, i); j < cols; j += kL) {
      const Vec<T> x = load(s + i * stride + j);
      Vec<T> e[2] = {fma(x, factor, broadcast(-row_shift[i])),
                     fma(x, factor, -load(col_shift + j))};
      exp2_nonpositive(e);
      sum += e[0];
      store(col_sum + j, load(col_sum + j) + e[1]);
    }
    row_sum[i] = lane_sum<T>(sum);
  }
}

// Adds the statistics of a tile's rows to those of a group: `shift` is what the tile's sums are
// under, tile.shift the largest similarity of each row. Whole vectors: `n` rounded up.
template <class T>
void merge(const Statistics<T>& group, const Statistics<T>& tile, const T* shift, int64_t n,
           int64_t first_index) {
  for (int64_t i = 0; i < n; i += kLanes<T>) {
    const Vec<T> old = load(group.shift + i), top = max(load(tile.shift + i), old);
    Vec<T> change[2] = {old - top, load(shift + i) - top};
    exp2_nonpositive(change);
    store(group.sum + i, load(group.sum + i) * change[0] + load(tile.sum + i) * change[1]);
    store(group.shift + i, top);
  }
  if (group.index == nullptr) return;
  for (int64_t i = 0; i < n; ++i) {
    if (tile.top[i] > group.top[i]) {
      group.top[i] = tile.top[i];
      group.index[i] = static_cast<int32_t>(first_index + tile.index[i]);
    }
  }
}

// What the rows (or columns) of a tile give the gradient of their similarities:
// coefficient * 2^(similarity in powers of two - shift), with shift at least the largest.
template <class T>
struct Weights {
  const T* shift;
  const T* coefficient;
};

// coefficient * 2^(shift - own shift) for whole vectors of rows.
template <class T>
void weigh_rows(const Weights<T>& weights, int64_t rows, T shift, T* factor) {
  for (int64_t i = 0; i < rows; i += kLanes<T>) {
    const Vec<T> change = exp2_nonpositive<T>(shift - load(weights.shift + i));
    store(factor + i, change * load(weights.coefficient + i));
  }
}

// w [rows, cols] = s * (row factor + column factor), s being exponentials under `shift`.
template <class T>
void weigh_exponentials(const T* s, T* w, const TileShape& shape, T shift, const Weights<T>& row,
                        const Weights<T>& col) {
  const auto [rows, cols, stride, triangle] = shape;
  T row_factor[kMaxTile], col_factor[kMaxTile];
  weigh_rows(row, rows, shift, row_factor);
  weigh_rows(col, cols, shift, col_factor);
  for (int64_t i = 0; i < rows; ++i) {
    const Vec<T> factor = broadcast(row_factor[i]);
    for (int64_t j = first_col<T>(triangle, i); j < cols; j += kLanes<T>) {
      store(w + i * stride + j, load(s + i * stride + j) * (load(col_factor + j) + factor));
    }
  }
}

// The same from similarities, in place: one exponential each while the shifts lie close together.
template <class T>
void weigh_similarities(T* s, const TileShape& shape, T scale, const Weights<T>& row,
                        const Weights<T>& col) {
  constexpr int kL = kLanes<T>;
  const auto [rows, cols, stride, triangle] = shape;
  T low = row.shift[0], high = low;
  for (int64_t i = 0; i < rows; ++i) {
    low = std::min(low, row.shift[i]);
    high = std::max(high, row.shift[i]);
  }
  for (int64_t j = 0; j < cols; ++j) {
    low = std::min(low, col.shift[j]);
    high = std::max(high, col.shift[j]);
  }
  const Vec<T> factor = broadcast(scale);
  int64_t i = 0;
  if (high - low <= kSpread<T>) {  // false where there is a NaN
    T row_factor[kMaxTile], col_factor[kMaxTile];
    weigh_rows(row, rows, low, row_factor);
    weigh_rows(col, cols, low, col_factor);
    const Vec<T> minus = broadcast(-low);
    for (; i + 4 <= rows; i += 4) {
      for (int64_t j = first_col<T>(triangle, i); j < cols; j += kL) {
        T* at = s + i * stride + j;
        const Vec<T> own = load(col_factor + j);
        Vec<T> x[4];
#pragma GCC unroll 4
        for (int n = 0; n < 4; ++n) x[n] = fma(load(at + n * stride), factor, minus);
        exp2_nonpositive(x);
#pragma GCC unroll 4
        for (int n = 0; n < 4; ++n) store(at + n * stride, x[n] * (own + row_factor[i + n]));
      }
    }
  }
  for (; i < rows; ++i) {
    for (int64_t j = first_col<T>(triangle, i); j < cols; j += kL) {
      T* at = s + i * stride + j;
      Vec<T> x[2] = {fma(load(at), factor, broadcast(-row.shift[i])),
                     fma(load(at), factor, -load(col.shift + j))};
      exp2_nonpositive(x);
      store(at, x[0] * row.coefficient[i] + x[1] * load(col.coefficient + j));
    }
  }
}
