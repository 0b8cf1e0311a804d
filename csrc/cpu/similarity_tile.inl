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

// The largest of each row and each column of s [rows, cols] (cols rounded up to whole vectors holds
// -infinity), and with kIndex its column or row in the tile, the first of equals. NaN is passed
// over.
template <bool kIndex, class T>
void tile_maxima(const T* s, int64_t stride, int64_t rows, int64_t cols, T* row_top,
                 int32_t* row_index, T* col_top, int32_t* col_index) {
  constexpr int kL = kLanes<T>;
  using Integer = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  Vec<T> best[kMaxTile];
  IntVec<T> place[kMaxTile];
  for (int64_t i = 0; i < rows; ++i) {
    best[i] = broadcast(kFloor<T>);
    place[i] = IntVec<T>{};
  }
  for (int64_t j = 0; j < cols; j += kL) {
    Vec<T> top = broadcast(kFloor<T>);
    IntVec<T> at = {};
    for (int64_t i = 0; i < rows; ++i) {
      const Vec<T> x = load(s + i * stride + j);
      if constexpr (kIndex) {
        const IntVec<T> higher = x > top, rises = x > best[i];
        at = higher ? IntVec<T>{} + static_cast<Integer>(i) : at;
        top = higher ? x : top;
        place[i] = rises ? IntVec<T>{} + static_cast<Integer>(j) : place[i];
        best[i] = rises ? x : best[i];
      } else {
        top = max(x, top);
        best[i] = max(x, best[i]);
      }
    }
    store(col_top + j, top);
    if constexpr (kIndex) {
      for (int lane = 0; lane < kL; ++lane) col_index[j + lane] = static_cast<int32_t>(at[lane]);
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    T top = best[i][0];
    Integer at = place[i][0];
    for (int lane = 1; lane < kL; ++lane) {
      const Integer here = place[i][lane] + lane;
      if (best[i][lane] > top || (kIndex && best[i][lane] == top && here < at)) {
        top = best[i][lane];
        at = here;
      }
    }
    row_top[i] = top;
    if constexpr (kIndex) row_index[i] = static_cast<int32_t>(at);
  }
}

// s [rows, cols] becomes 2^(scale * s - shift); sums of its rows and columns.
template <class T>
void tile_exponentials(T* s, int64_t stride, int64_t rows, int64_t cols, T scale, T shift,
                       T* row_sum, T* col_sum) {
  constexpr int kL = kLanes<T>;
  Vec<T> sums[kMaxTile];
  for (int64_t i = 0; i < rows; ++i) sums[i] = Vec<T>{};
  const Vec<T> factor = broadcast(scale), minus = broadcast(-shift);
  for (int64_t j = 0; j < cols; j += kL) {
    Vec<T> total = {};
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) {
      T* at = s + i * stride + j;
      Vec<T> x[4];
      for (int n = 0; n < 4; ++n) x[n] = fma(load(at + n * stride), factor, minus);
      exp2_nonpositive(x);
      for (int n = 0; n < 4; ++n) {
        store(at + n * stride, x[n]);
        sums[i + n] += x[n];
      }
      total += (x[0] + x[1]) + (x[2] + x[3]);
    }
    for (; i < rows; ++i) {
      const Vec<T> x = exp2_nonpositive<T>(fma(load(s + i * stride + j), factor, minus));
      store(s + i * stride + j, x);
      sums[i] += x;
      total += x;
    }
    store(col_sum + j, total);
  }
  for (int64_t i = 0; i < rows; ++i) row_sum[i] = lane_sum<T>(sums[i]);
}

// The sums again where the maxima are too far apart: two exponentials each, and s stays.
template <class T>
void tile_exponentials_apart(const T* s, int64_t stride, int64_t rows, int64_t cols, T scale,
                             const T* row_shift, const T* col_shift, T* row_sum, T* col_sum) {
  constexpr int kL = kLanes<T>;
  const Vec<T> factor = broadcast(scale);
  for (int64_t i = 0; i < rows; ++i) {
    Vec<T> total = {};
    for (int64_t j = 0; j < cols; j += kL) {
      total += exp2_nonpositive<T>(fma(load(s + i * stride + j), factor, broadcast(-row_shift[i])));
    }
    row_sum[i] = lane_sum<T>(total);
  }
  for (int64_t j = 0; j < cols; j += kL) {
    const Vec<T> shift = load(col_shift + j);
    Vec<T> total = {};
    for (int64_t i = 0; i < rows; ++i) {
      total += exp2_nonpositive<T>(fma(load(s + i * stride + j), factor, -shift));
    }
    store(col_sum + j, total);
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

// w [rows, cols] = s * (row factor + column factor), s being exponentials under `shift`.
template <class T>
void weigh_exponentials(const T* s, T* w, int64_t stride, int64_t rows, int64_t cols, T shift,
                        const Weights<T>& row, const Weights<T>& col) {
  constexpr int kL = kLanes<T>;
  T row_factor[kMaxTile];
  for (int64_t i = 0; i < rows; i += kL) {
    const Vec<T> change = exp2_nonpositive<T>(shift - load(row.shift + i));
    store(row_factor + i, change * load(row.coefficient + i));
  }
  for (int64_t j = 0; j < cols; j += kL) {
    const Vec<T> change = exp2_nonpositive<T>(shift - load(col.shift + j));
    const Vec<T> factor = change * load(col.coefficient + j);
    for (int64_t i = 0; i < rows; ++i) {
      store(w + i * stride + j, load(s + i * stride + j) * (factor + row_factor[i]));
    }
  }
}

// The same from similarities, in place: one exponential each while the shifts lie close together.
template <class T>
void weigh_similarities(T* s, int64_t stride, int64_t rows, int64_t cols, T scale,
                        const Weights<T>& row, const Weights<T>& col) {
  constexpr int kL = kLanes<T>;
  T low = row.shift[0], high = low;
  for (int64_t i = 0; i < rows; ++i) {
    low = std::min(low, row.shift[i]);
    high = std::max(high, row.shift[i]);
  }
  for (int64_t j = 0; j < cols; ++j) {
    low = std::min(low, col.shift[j]);
    high = std::max(high, col.shift[j]);
  }
  const bool close = high - low <= kSpread<T>;  // false where there is a NaN
  const Vec<T> factor = broadcast(scale);
  T row_factor[kMaxTile];
  for (int64_t i = 0; close && i < rows; i += kL) {
    const Vec<T> change = exp2_nonpositive<T>(low - load(row.shift + i));
    store(row_factor + i, change * load(row.coefficient + i));
  }
  for (int64_t j = 0; j < cols; j += kL) {
    const Vec<T> shift = load(col.shift + j), coefficient = load(col.coefficient + j);
    const Vec<T> col_factor = exp2_nonpositive<T>(low - shift) * coefficient;
    int64_t i = 0;
    for (; close && i + 4 <= rows; i += 4) {
      T* at = s + i * stride + j;
      Vec<T> x[4];
      for (int n = 0; n < 4; ++n) x[n] = fma(load(at + n * stride), factor, broadcast(-low));
      exp2_nonpositive(x);
      for (int n = 0; n < 4; ++n) store(at + n * stride, x[n] * (col_factor + row_factor[i + n]));
    }
    for (; i < rows; ++i) {
      T* at = s + i * stride + j;
      Vec<T> x[2] = {fma(load(at), factor, broadcast(-row.shift[i])),
                     fma(load(at), factor, -shift)};
      exp2_nonpositive(x);
      store(at, x[0] * row.coefficient[i] + x[1] * coefficient);
    }
  }
}
