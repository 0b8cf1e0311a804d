// Small matrix products for matrices that stay in cache: a register tile of kTileRows rows (a
// property of the instruction set) x 2 vectors, the right operand packed into panels (or already
// contiguous), the left one read where it lies. Not a BLAS: no cache blocking and no threads.
// Callers block, and hook their own work (activation, statistics, ...) in behind each tile, while
// it is in L1. One tile of depth K costs 2 * kTileRows * kTileCols * K FLOP and reads (kTileRows +
// kTileCols) * K elements; on AVX2 that is twelve multiply-adds for two vector loads and six
// broadcasts, on AVX-512 twenty-four for two and twelve. No #include and no namespace here: simd.h
// comes first, outside the namespace, then simd.inl inside it.

template <class T>
constexpr int kTileCols = 2 * kLanes<T>;

// Elements of the packed form of a [depth, cols] matrix.
template <class T>
MCLREC_INLINE int64_t panels_size(int64_t depth, int64_t cols) {
  return round_up(cols, kTileCols<T>) * depth;
}

// Packs b [depth, cols], element (k, n) at b[k * step_k + n * step_n], into panels of kTileCols
// columns: panel p holds [depth][kTileCols], columns beyond `cols` are zero. A matrix [out, in]
// used as x W^T has depth = in, cols = out, step_k = 1, step_n = in; used as y W it has depth =
// out, cols = in, step_k = in, step_n = 1.
template <class T>
void pack_panels(const T* b, int64_t step_k, int64_t step_n, int64_t depth, int64_t cols,
                 T* panels) {
  constexpr int kCols = kTileCols<T>;
  for (int64_t first = 0; first < cols; first += kCols, panels += kCols * depth) {
    const int64_t width = cols - first < kCols ? cols - first : kCols;
    if (step_n == 1 && width == kCols) {
      for (int64_t k = 0; k < depth; ++k) {
        const T* from = b + k * step_k + first;
        store(panels + k * kCols, load(from));
        store(panels + k * kCols + kLanes<T>, load(from + kLanes<T>));
      }
      continue;
    }
    int64_t done = 0;
#if MCLREC_X86
    if constexpr (kVectorBytes >= 32) {
      if (step_k == 1 && width == kCols) {
        for (; done + kLanes<T> <= depth; done += kLanes<T>) {
          const T* from = b + first * step_n + done;
          transpose_block(from, step_n, panels + done * kCols, kCols);
          transpose_block(from + kLanes<T> * step_n, step_n, panels + done * kCols + kLanes<T>,
                          kCols);
        }
      }
    }
#endif
    // Four k at a time: each column is then read in runs, each panel row written in one piece.
    for (int64_t k0 = done; k0 < depth; k0 += 4) {
      const int64_t k1 = k0 + 4 < depth ? k0 + 4 : depth;
      for (int64_t n = 0; n < kCols; ++n) {
        const T* from = b + (first + n) * step_n;
        for (int64_t k = k0; k < k1; ++k) {
          panels[k * kCols + n] = n < width ? from[k * step_k] : T(0);
        }
      }
    }
  }
}

// What a tile starts from.
enum class TileStart { kZero, kBias, kAdd };  // 0; a row bias[kTileCols]; 0, then added to c

// c[0..R)[0..kTileCols) = start + a b over `depth`. Element (r, k) of a stands in its row r, or in
// its row k when kTransposed (a weight gradient: depth runs over tokens). b has `depth` rows of
// kTileCols elements (its stride is kTileCols inside a panel). c and b need no alignment.
template <int R, bool kTransposed, TileStart kStart, class T>
__attribute__((noinline)) void multiply_tile(Rows<const T> a_rows, Rows<const T> b_rows,
                                             int64_t depth, const T* bias, Rows<T> c_rows) {
  static_assert(R >= 1 && R <= kTileRows);
  constexpr int kHalf = kLanes<T>;
  const T* a = a_rows.at;
  const T* b = b_rows.at;
  T* const c = c_rows.at;
  const int64_t lda = a_rows.stride, ldb = b_rows.stride, ldc = c_rows.stride;
  Vec<T> sum[R][2];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    __builtin_prefetch(c + r * ldc, 1);
    if constexpr (kVectorBytes == 64) __builtin_prefetch(c + r * ldc + kHalf, 1);
    sum[r][0] = kStart == TileStart::kBias ? load(bias) : Vec<T>{};
    sum[r][1] = kStart == TileStart::kBias ? load(bias + kHalf) : Vec<T>{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    const Vec<T> b0 = load(b), b1 = load(b + kHalf);
    b += ldb;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec<T> x = broadcast<T>(kTransposed ? a[r] : a[r * lda + k]);
      sum[r][0] = fma(x, b0, sum[r][0]);
      sum[r][1] = fma(x, b1, sum[r][1]);
    }
    if constexpr (kTransposed) a += lda;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    // A long sum in parts rounds less when each part is summed by itself.
    if constexpr (kStart == TileStart::kAdd) {
      sum[r][0] += load(c + r * ldc);
      sum[r][1] += load(c + r * ldc + kHalf);
    }
    store(c + r * ldc, sum[r][0]);
    store(c + r * ldc + kHalf, sum[r][1]);
  }
}

// Rows of the next tile when `left` remain: kTileRows, but the last two tiles share what is left
// evenly, because a tile of one or two rows cannot hide the latency of its multiply-adds.
MCLREC_INLINE int next_tile_rows(int64_t left) {
  if (left >= 2 * kTileRows || left == kTileRows) return kTileRows;
  return static_cast<int>(left > kTileRows ? (left + 1) / 2 : left);
}

// multiply_tile of `rows` rows, at most R.
template <bool kTransposed, TileStart kStart, class T, int R = kTileRows>
MCLREC_INLINE void multiply_tile_rows(int rows, Rows<const T> a, Rows<const T> b, int64_t depth,
                                      Rows<T> c, const T* bias = nullptr) {
  if constexpr (R > 1) {
    if (rows < R) {
      return multiply_tile_rows<kTransposed, kStart, T, R - 1>(rows, a, b, depth, c, bias);
    }
  }
  multiply_tile<R, kTransposed, kStart, T>(a, b, depth, bias, c);
}

// c [rows, ceil(cols)] = start + a [rows, depth] b [depth, cols], b in panels; ceil rounds up to
// whole tiles, so c's rows (and `bias`, when used) must have room for that; the extra columns get
// start + 0. Panels are the outer loop: a panel stays in L1 while a streams by.
// finish(col) runs behind each panel, while c[0 .. rows)[col .. col + kTileCols) is in L1: many
// rows at once, because elementwise work behind every single tile would begin and end too often.
// beside(row, col, count) runs before each tile of `count` rows: a place for a few prefetches of
// what comes next (prefetch.h).
template <TileStart kStart, class T, class Finish, class Beside>
MCLREC_INLINE void multiply_panels(Rows<const T> a, const T* panels, const ProductSize& size,
                                   Rows<T> c, const T* bias, const Finish& finish,
                                   const Beside& beside) {
  constexpr int kCols = kTileCols<T>;
  for (int64_t col = 0; col < size.cols; col += kCols, panels += kCols * size.depth) {
    const T* start = kStart == TileStart::kBias ? bias + col : nullptr;
    for (int64_t row = 0; row < size.rows;) {
      const int count = next_tile_rows(size.rows - row);
      beside(row, col, count);
      multiply_tile_rows<false, kStart, T>(count, a.from(row, 0), {panels, kCols}, size.depth,
                                           c.from(row, col), start);
      row += count;
    }
    finish(col);
  }
}

template <TileStart kStart, class T>
MCLREC_INLINE void multiply_panels(Rows<const T> a, const T* panels, const ProductSize& size,
                                   Rows<T> c, const T* bias = nullptr) {
  multiply_panels<kStart, T>(
      a, panels, size, c, bias, [](int64_t) {}, [](int64_t, int64_t, int) {});
}

// c [rows, cols] (+)= a^T b with a [depth, rows] and b [depth, cols] as they lie: the gradient of a
// weight, summed over `depth` tokens. `cols` must be whole tiles (pad the rows of b and c).
template <TileStart kStart, class T>
MCLREC_INLINE void multiply_transposed(Rows<const T> a, Rows<const T> b, const ProductSize& size,
                                       Rows<T> c) {
  for (int64_t col = 0; col < size.cols; col += kTileCols<T>) {
    for (int64_t row = 0; row < size.rows;) {
      const int count = next_tile_rows(size.rows - row);
      multiply_tile_rows<true, kStart, T>(count, a.from(0, row), b.from(0, col), size.depth,
                                          c.from(row, col));
      row += count;
    }
  }
}
