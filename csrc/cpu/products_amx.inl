// Products of rounded factors on AMX's tiles (see products.inl), or without AMX on vectors in the
// same layout (products_dpbf16.inl). A tile is 1 KB: 16 rows of 32 bf16
// numbers of a left factor, or 16 pairs of rows of 16 numbers each of a right one (k and k + 1 of a
// column beside each other); tdpbf16ps adds the product of two to 16 x 16 floats in 16 cycles. With
// kParts = 2 a factor is the sum of two bf16 numbers, high and low, and a product the sum of low x
// high, high x low and high x high, the small ones first: what is left out is 2^-16 of it (Henry,
// Tang & Heinecke 2019, arXiv 1904.06376). NaN stays NaN; what is infinite, or rounds to it, gives
// infinity or NaN.
//
// All factors lie in whole tiles, one order for all: [tiles of rows (left) or pairs of tiles of
// columns (right)][tiles of depth][2 tiles of columns (right)][kParts]. What is beyond the matrix
// is zero.

constexpr int64_t kTileBytes = 1024;
constexpr int64_t kTileEdge = 16;   // rows of a left tile, columns of a right one
constexpr int64_t kTileDepth = 32;  // bf16 numbers of a row

// Every tile 16 x 64 bytes. The compiler knows nothing of tiles: instructions are volatile and keep
// their order, those on memory do so among all accesses to memory.
struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

#define MCLREC_TILE_ZERO(n) asm volatile("tilezero %%tmm" #n::)
#define MCLREC_TILE_LOAD(n, from, step) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #n::"r"(from), "r"(int64_t{step}) : "memory")
#define MCLREC_TILE_STORE(n, to, step) \
  asm volatile("tilestored %%tmm" #n ", (%0,%1,1)" ::"r"(to), "r"(int64_t{step}) : "memory")
// c += a b
#define MCLREC_TILE_PRODUCT(c, a, b) asm volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c::)

// 32 floats as kParts vectors of 32 bf16 numbers.
MCLREC_INLINE void split_floats(__m512 low, __m512 high, __m512i (&parts)[kParts]) {
  parts[0] = (__m512i)_mm512_cvtne2ps_pbh(high, low);
  if constexpr (kParts == 2) {
    // bf16 is the upper half of a float.
    const auto wide = [](__m256i half) __attribute__((always_inline)) {
      return (__m512)((__v16si)_mm512_maskz_cvtepu16_epi32(0xffff, half) << 16);
    };
    const __m512 halves = (__m512)parts[0];
    low -= wide((__m256i)lower_half(halves));
    high -= wide((__m256i)upper_half(halves));
    parts[1] = (__m512i)_mm512_cvtne2ps_pbh(high, low);
  }
}

// The first `count` of 16 floats, zeros behind them; count may be anything.
MCLREC_INLINE __m512 load_at_most(const float* from, int64_t count) {
  if (count >= 16) return _mm512_loadu_ps(from);
  return count <= 0 ? __m512{} : _mm512_maskz_loadu_ps(first_bits<float>(count), from);
}

// Two rows of 16 floats as a row of a right tile.
MCLREC_INLINE void store_pair(__m512 even, __m512 odd, std::byte* to, int64_t row) {
  const __m512i order =
      (__m512i)(__v32hi){0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                         8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  __m512i parts[kParts];
  split_floats(even, odd, parts);
  for (int p = 0; p < kParts; ++p) {
    _mm512_storeu_si512(to + p * kTileBytes + row * 64, _mm512_permutexvar_epi16(order, parts[p]));
  }
}

// A tile's parts with rows and columns of 32-bit elements exchanged.
MCLREC_INLINE void turn_tile(const float (&from)[kParts][16][16], std::byte* to) {
  for (int p = 0; p < kParts; ++p) {
    turn_16([&](int r) __attribute__((always_inline)) { return &from[p][r][0]; },
            reinterpret_cast<float*>(to + p * kTileBytes), 16);
  }
}

#include "products_dpbf16.inl"

template <class T>
class Products {
  static_assert(std::is_same_v<T, float>);
  static constexpr int64_t kStep = kParts * kTileBytes;  // from one tile to the next

 public:
  // Whole tiles; `depth` is in tiles.
  struct Tiles {
    const std::byte* at;
    int64_t depth;
  };
  using Left = Tiles;
  using Turned = Tiles;
  using Paired = Tiles;

  // The tiles' shape is state of the thread, and costs a context switch 8 KB while it is set.
  struct Use {
    Use() {
      static constexpr TileConfig config;
      if (tiles) asm volatile("ldtilecfg %0" ::"m"(config));
    }
    ~Use() {
      if (tiles) asm volatile("tilerelease");
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    const bool tiles = tiles_in_use();
  };

  // Gives the memory of factors back.
  class Room {
   public:
    explicit Room(Products& products) : products_(products), used_(products.used_) {}
    ~Room() { products_.used_ = used_; }
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;

   private:
    Products& products_;
    std::byte* used_;
  };

  static int64_t room_for(int64_t rows, int64_t columns) {
    return round_up(rows, kTileDepth) * columns * kParts / 2;
  }
  explicit Products(T* memory) : used_(reinterpret_cast<std::byte*>(memory)) {}

  static int64_t panels_size(int64_t depth, int64_t cols) {
    return round_up(cols, 2 * kTileEdge) * round_up(depth, kTileDepth) * kParts / 2;
  }

  static void pack(const T* b, int64_t step_k, int64_t step_n, int64_t depth, int64_t cols,
                   T* panels) {
    if (step_n == 1) return pair_rows({b, step_k}, depth, cols, bytes(panels));
    if (step_k == 1) return turn_rows_of_right({b, step_n}, depth, cols, bytes(panels));
    pack_each(depth, cols, panels,
              [=](int64_t k, int64_t n) { return b[k * step_k + n * step_n]; });
  }

  template <class Element>
  static void pack_each(int64_t depth, int64_t cols, T* panels, const Element& element) {
    const int64_t tiles = ceil_div(depth, kTileDepth);
    T rows[2][kTileEdge];
    for (int64_t n = 0; n < round_up(cols, 2 * kTileEdge); n += kTileEdge) {
      for (int64_t k = 0; k < tiles * kTileDepth; k += 2) {
        for (int64_t r = 0; r < 2; ++r) {
          for (int64_t i = 0; i < kTileEdge; ++i) {
            rows[r][i] = k + r < depth && n + i < cols ? element(k + r, n + i) : T(0);
          }
        }
        store_pair(_mm512_loadu_ps(rows[0]), _mm512_loadu_ps(rows[1]),
                   right_tile(bytes(panels), tiles, n, k / kTileDepth), k % kTileDepth / 2);
      }
    }
  }

  // a [rows, depth]; nothing beyond `depth` is read.
  Left left(Rows<const T> a, int64_t rows, int64_t depth) {
    const int64_t tiles = ceil_div(depth, kTileDepth);
    std::byte* to = take(round_up(rows, kTileEdge) * tiles * kTileDepth);
    const Left factor{to, tiles};
    for (int64_t row = 0; row < round_up(rows, kTileEdge); ++row) {
      std::byte* place = to + row / kTileEdge * tiles * kStep + row % kTileEdge * 64;
      for (int64_t k = 0; k < depth; k += kTileDepth, place += kStep) {
        __m512i parts[kParts] = {};
        if (row < rows) {
          const T* from = a.row(row) + k;
          split_floats(load_at_most(from, depth - k), load_at_most(from + 16, depth - k - 16),
                       parts);
        }
        for (int p = 0; p < kParts; ++p) _mm512_storeu_si512(place + p * kTileBytes, parts[p]);
      }
    }
    return factor;
  }

  // a [depth, rows], as the left factor of a^T b; nothing beyond `rows` is read.
  Turned turned(Rows<const T> a, int64_t depth, int64_t rows) {
    const int64_t tiles = ceil_div(depth, kTileDepth);
    std::byte* to = take(round_up(rows, kTileEdge) * tiles * kTileDepth);
    const Turned factor{to, tiles};
    alignas(64) float pairs[kParts][16][16];
    for (int64_t tile = 0; tile < tiles; ++tile) {
      for (int64_t first = 0; first < rows; first += kTileEdge) {
        for (int64_t pair = 0; pair < 16; ++pair) {
          const int64_t k = tile * kTileDepth + 2 * pair;
          store_pair(load_at_most(a.row(k) + first, k < depth ? rows - first : 0),
                     load_at_most(a.row(k + 1) + first, k + 1 < depth ? rows - first : 0),
                     reinterpret_cast<std::byte*>(pairs), pair);
        }
        turn_tile(pairs, to + (first / kTileEdge * tiles + tile) * kStep);
      }
    }
    return factor;
  }

  // b [depth, cols], cols whole vectors.
  Paired paired(Rows<const T> b, int64_t depth, int64_t cols) {
    const int64_t tiles = ceil_div(depth, kTileDepth);
    std::byte* to = take(round_up(cols, 2 * kTileEdge) * tiles * kTileDepth);
    pair_rows(b, depth, cols, to);
    return {to, tiles};
  }

  // Parts of factors that their maker writes himself. A left one [rows, depth]: columns [32 tile,
  // 32 tile + 32) of a row. A right one [depth, cols]: rows k and k + 1 (k even) of columns
  // [n, n + 16).
  MCLREC_INLINE static void put_left(const Tiles& factor, int64_t row, int64_t tile, __m512 low,
                                     __m512 high) {
    std::byte* to = const_cast<std::byte*>(factor.at) +
                    (row / kTileEdge * factor.depth + tile) * kStep + row % kTileEdge * 64;
    __m512i parts[kParts];
    split_floats(low, high, parts);
    for (int p = 0; p < kParts; ++p) _mm512_store_si512(to + p * kTileBytes, parts[p]);
  }
  MCLREC_INLINE static void put_pair(const Tiles& factor, int64_t k, int64_t n, __m512 even,
                                     __m512 odd) {
    store_pair(even, odd,
               right_tile(const_cast<std::byte*>(factor.at), factor.depth, n, k / kTileDepth),
               k % kTileDepth / 2);
  }
  // Room for such a factor.
  Tiles empty(int64_t lines, int64_t depth) {
    const int64_t tiles = ceil_div(depth, kTileDepth);
    return {take(round_up(lines, 2 * kTileEdge) * tiles * kTileDepth), tiles};
  }

  template <TileStart kStart, class Finish, class Beside>
  static void multiply(const Left& a, const T* panels, const ProductSize& size, Rows<T> c,
                       const T* bias, const Finish& finish, const Beside& beside) {
    const std::byte* right = reinterpret_cast<const std::byte*>(panels);
    const bool tiles = tiles_in_use();
    for (int64_t col = 0; col < size.cols; col += 2 * kTileEdge) {
      for (int64_t row = 0; row < size.rows; row += 2 * kTileEdge) {
        const int64_t count = std::min(size.rows - row, 2 * kTileEdge);
        beside(row, col, static_cast<int>(count));
        const std::byte* rows = a.at + row / kTileEdge * a.depth * kStep;
        const T* start = kStart == TileStart::kBias ? bias + col : nullptr;
        if (!tiles) {
          multiply_pairs<kStart, kStep>(rows, right, a.depth, count, c.from(row, col), start);
        } else if (count > kTileEdge) {
          multiply_tiles<kStart, 2>(rows, right, a.depth, count, c.from(row, col), start);
        } else {
          multiply_tiles<kStart, 1>(rows, right, a.depth, count, c.from(row, col), start);
        }
      }
      right += 2 * a.depth * kStep;
      finish(col);
    }
  }
  template <TileStart kStart>
  static void multiply(const Left& a, const T* panels, const ProductSize& size, Rows<T> c,
                       const T* bias = nullptr) {
    multiply<kStart>(a, panels, size, c, bias, [](int64_t) {}, [](int64_t, int64_t, int) {});
  }

  template <TileStart kStart>
  static void multiply_turned(const Turned& a, const Paired& b, const ProductSize& size,
                              Rows<T> c) {
    multiply<kStart>(a, reinterpret_cast<const T*>(b.at), size, c);
  }

 private:
  static std::byte* bytes(T* memory) { return reinterpret_cast<std::byte*>(memory); }

  std::byte* take(int64_t elements) {
    std::byte* place = used_;
    used_ += elements * 2 * kParts;
    return place;
  }

  // The tile of column n, a multiple of 16, and of depth `tile` of `tiles`.
  static std::byte* right_tile(std::byte* right, int64_t tiles, int64_t n, int64_t tile) {
    return right + ((n / (2 * kTileEdge) * tiles + tile) * 2 + n / kTileEdge % 2) * kStep;
  }

  // b [depth, cols] as a right factor; nothing beyond `cols` is read.
  static void pair_rows(Rows<const T> b, int64_t depth, int64_t cols, std::byte* to) {
    const int64_t tiles = ceil_div(depth, kTileDepth);
    for (int64_t k = 0; k < tiles * kTileDepth; k += 2) {
      for (int64_t n = 0; n < round_up(cols, 2 * kTileEdge); n += kTileEdge) {
        store_pair(load_at_most(b.row(k) + n, k < depth ? cols - n : 0),
                   load_at_most(b.row(k + 1) + n, k + 1 < depth ? cols - n : 0),
                   right_tile(to, tiles, n, k / kTileDepth), k % kTileDepth / 2);
      }
    }
  }

  // The same from b^T [cols, depth].
  static void turn_rows_of_right(Rows<const T> b, int64_t depth, int64_t cols, std::byte* to) {
    const int64_t tiles = ceil_div(depth, kTileDepth);
    alignas(64) float columns[kParts][16][16];
    for (int64_t n = 0; n < round_up(cols, 2 * kTileEdge); n += kTileEdge) {
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int64_t k = tile * kTileDepth;
        for (int64_t i = 0; i < kTileEdge; ++i) {
          const T* from = b.row(n + i) + k;
          const int64_t left = n + i < cols ? depth - k : 0;
          __m512i parts[kParts];
          split_floats(load_at_most(from, left), load_at_most(from + 16, left - 16), parts);
          for (int p = 0; p < kParts; ++p) _mm512_store_si512(&columns[p][i][0], parts[p]);
        }
        turn_tile(columns, right_tile(to, tiles, n, tile));
      }
    }
  }

  // c [count, 32] = start + a b: kRowTiles x 2 tiles of c in registers 0 to 3, those of a in 4 and
  // 5, those of b in 6 and 7.
  template <TileStart kStart, int kRowTiles>
  __attribute__((noinline)) static void multiply_tiles(const std::byte* a, const std::byte* b,
                                                       int64_t depth, int64_t count, Rows<T> c,
                                                       const T* bias) {
    const bool whole = count == kRowTiles * kTileEdge;
    const int64_t c_bytes = c.stride * static_cast<int64_t>(sizeof(T));
    const int64_t next_row = depth * kStep;  // to the second tile of rows
    T* const second = c.row(kTileEdge);
    if constexpr (kStart == TileStart::kBias) {
      MCLREC_TILE_LOAD(0, bias, 0);
      MCLREC_TILE_LOAD(1, bias + kTileEdge, 0);
      if constexpr (kRowTiles == 2) {
        MCLREC_TILE_LOAD(2, bias, 0);
        MCLREC_TILE_LOAD(3, bias + kTileEdge, 0);
      }
    } else if (kStart == TileStart::kAdd && whole) {
      MCLREC_TILE_LOAD(0, c.at, c_bytes);
      MCLREC_TILE_LOAD(1, c.at + kTileEdge, c_bytes);
      if constexpr (kRowTiles == 2) {
        MCLREC_TILE_LOAD(2, second, c_bytes);
        MCLREC_TILE_LOAD(3, second + kTileEdge, c_bytes);
      }
    } else {
      MCLREC_TILE_ZERO(0);
      MCLREC_TILE_ZERO(1);
      if constexpr (kRowTiles == 2) {
        MCLREC_TILE_ZERO(2);
        MCLREC_TILE_ZERO(3);
      }
    }
    // The product of part `of_a` of a and `of_b` of b.
    const auto add = [&](int64_t tile, int of_a, int of_b) __attribute__((always_inline)) {
      const std::byte* left = a + tile * kStep + of_a * kTileBytes;
      const std::byte* right = b + 2 * tile * kStep + of_b * kTileBytes;
      MCLREC_TILE_LOAD(4, left, 64);
      MCLREC_TILE_LOAD(6, right, 64);
      MCLREC_TILE_PRODUCT(0, 4, 6);
      MCLREC_TILE_LOAD(7, right + kStep, 64);
      MCLREC_TILE_PRODUCT(1, 4, 7);
      if constexpr (kRowTiles == 2) {
        MCLREC_TILE_LOAD(5, left + next_row, 64);
        MCLREC_TILE_PRODUCT(2, 5, 6);
        MCLREC_TILE_PRODUCT(3, 5, 7);
      }
    };
    if constexpr (kParts == 2) {
      for (int64_t tile = 0; tile < depth; ++tile) {
        add(tile, 1, 0);
        add(tile, 0, 1);
      }
    }
    for (int64_t tile = 0; tile < depth; ++tile) add(tile, 0, 0);
    if (whole) {
      MCLREC_TILE_STORE(0, c.at, c_bytes);
      MCLREC_TILE_STORE(1, c.at + kTileEdge, c_bytes);
      if constexpr (kRowTiles == 2) {
        MCLREC_TILE_STORE(2, second, c_bytes);
        MCLREC_TILE_STORE(3, second + kTileEdge, c_bytes);
      }
      return;
    }
    alignas(64) T sums[kRowTiles * kTileEdge][2 * kTileEdge];
    constexpr int64_t kSumBytes = sizeof(sums[0]);
    MCLREC_TILE_STORE(0, &sums[0][0], kSumBytes);
    MCLREC_TILE_STORE(1, &sums[0][kTileEdge], kSumBytes);
    if constexpr (kRowTiles == 2) {
      MCLREC_TILE_STORE(2, &sums[kTileEdge][0], kSumBytes);
      MCLREC_TILE_STORE(3, &sums[kTileEdge][kTileEdge], kSumBytes);
    }
    for (int64_t row = 0; row < count; ++row) {
      for (int64_t col = 0; col < 2 * kTileEdge; col += kLanes<T>) {
        Vec<T> sum = load(&sums[row][col]);
        if constexpr (kStart == TileStart::kAdd) sum += load(c.row(row) + col);
        store(c.row(row) + col, sum);
      }
    }
  }

  std::byte* used_;
};

#undef MCLREC_TILE_ZERO
#undef MCLREC_TILE_LOAD
#undef MCLREC_TILE_STORE
#undef MCLREC_TILE_PRODUCT
