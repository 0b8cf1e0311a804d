// Products of factors as they are (see products.inl): rows are read where they lie, by the register
// tiles of gemm_tile.inl.

template <class T>
class Products {
 public:
  using Left = Rows<const T>;
  using Turned = Rows<const T>;
  using Paired = Rows<const T>;

  struct Use {};
  struct Room {
    explicit Room(const Products&) {}
  };

  // Elements that the factors of `rows` rows and `columns` columns in all need.
  static int64_t room_for(int64_t, int64_t) { return 0; }
  explicit Products(T*) {}

  static int64_t panels_size(int64_t depth, int64_t cols) {
    return round_up(cols, kTileCols<T>) * depth;
  }
  static void pack(const T* b, int64_t step_k, int64_t step_n, int64_t depth, int64_t cols,
                   T* panels) {
    pack_panels(b, step_k, step_n, depth, cols, panels);
  }
  // Element (k, n) is element(k, n).
  template <class Element>
  static void pack_each(int64_t depth, int64_t cols, T* panels, const Element& element) {
    constexpr int kCols = kTileCols<T>;
    for (int64_t first = 0; first < cols; first += kCols, panels += kCols * depth) {
      for (int64_t k = 0; k < depth; ++k) {
        for (int64_t n = 0; n < kCols; ++n) {
          panels[k * kCols + n] = first + n < cols ? element(k, first + n) : T(0);
        }
      }
    }
  }

  MCLREC_INLINE Left left(Rows<const T> a, int64_t, int64_t) const { return a; }
  MCLREC_INLINE Turned turned(Rows<const T> a, int64_t, int64_t) const { return a; }
  MCLREC_INLINE Paired paired(Rows<const T> b, int64_t, int64_t) const { return b; }

  template <TileStart kStart, class... Rest>
  MCLREC_INLINE static void multiply(const Left& a, const T* panels, const ProductSize& size,
                                     Rows<T> c, const Rest&... rest) {
    multiply_panels<kStart, T>(a, panels, size, c, rest...);
  }
  template <TileStart kStart>
  MCLREC_INLINE static void multiply_turned(const Turned& a, const Paired& b,
                                            const ProductSize& size, Rows<T> c) {
    multiply_transposed<kStart, T>(a, b, size, c);
  }
};
