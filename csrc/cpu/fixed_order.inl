// Single scores by the definition that the tiles of gemm_tile.inl also obey: a sum along the
// rows in order, starting from zero, one fma a step. The same vector instruction computes both, so
// a pair scored here equals the element of the tile to the bit. Also the bounds that prove scores
// finite. No #include and no namespace here; after simd.inl.

// out[i] = row . items[i] for i < n.
template <class T>
void pair_scores(const T* row, const T* const* items, int64_t n, int64_t hidden, T* out) {
  constexpr int kChains = 8;  // enough independent sums to hide the latency of an fma
  for (int64_t first = 0; first < n; first += kChains) {
    const T* item[kChains];
    for (int i = 0; i < kChains; ++i) item[i] = items[first + i < n ? first + i : n - 1];
    Vec<T> sum[kChains] = {};
    for (int64_t k = 0; k < hidden; ++k) {
      const Vec<T> x = broadcast(row[k]);
#pragma GCC unroll 8
      for (int i = 0; i < kChains; ++i) sum[i] = fma(x, broadcast(item[i][k]), sum[i]);
    }
    for (int i = 0; i < kChains && first + i < n; ++i) out[first + i] = sum[i][0];
  }
}

// The largest |x[i]|, or infinity when any x[i] is not finite.
template <class T>
T largest_magnitude(const T* x, int64_t n) {
  Vec<T> largest = {}, zero = {};
  for (int64_t i = 0; i < n; i += kLanes<T>) {
    const Vec<T> value =
        i + kLanes<T> <= n ? load(x + i) : load_first(x + i, static_cast<int>(n - i));
    largest = max(max(value, -value), largest);
    zero += value * T(0);  // becomes NaN
  }
  return lane_sum<T>(zero) == T(0) ? lane_max<T>(largest) : std::numeric_limits<T>::infinity();
}

// The sum of |x[i]|; not finite when any x[i] is not.
template <class T>
T magnitude_sum(const T* x, int64_t n) {
  T sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::abs(x[i]);
  return sum;
}
