// The product of tiles (see products_amx.inl) where a CPU has AVX512-BF16 but no AMX, such as Zen
// 4: vdpbf16ps adds the products of a pair of a row and the pairs of 16 columns. Factors lie as for
// AMX; a row's pair is one number of 32 bits here, the pairs of a right tile's row are one vector.
// Numbers below the normal ones count as zero, as in AMX; how the two products of a pair are
// rounded into a sum differs from it.

constexpr int kPairRows = 8;  // of a register tile of two vectors: sixteen sums hide the latency

// sums [kPairRows][2] += the rows at `left` times two right tiles.
MCLREC_INLINE void add_pair_products(const std::byte* left, const std::byte* right, int64_t step,
                                     __m512 (&sums)[kPairRows][2]) {
  for (int64_t pair = 0; pair < kTileEdge; ++pair) {
    const __m512i low = _mm512_loadu_si512(right + pair * 64);
    const __m512i high = _mm512_loadu_si512(right + step + pair * 64);
#pragma GCC unroll 8
    for (int r = 0; r < kPairRows; ++r) {
      int32_t two;
      std::memcpy(&two, left + r * 64 + pair * 4, sizeof(two));
      const __m512bh row = (__m512bh)_mm512_set1_epi32(two);
      sums[r][0] = _mm512_dpbf16_ps(sums[r][0], row, (__m512bh)low);
      sums[r][1] = _mm512_dpbf16_ps(sums[r][1], row, (__m512bh)high);
    }
  }
}

// c [count, 32] = start + a b, as multiply_tiles of products_amx.inl has it.
template <TileStart kStart, int64_t kStep>
__attribute__((noinline)) void multiply_pairs(const std::byte* a, const std::byte* b, int64_t depth,
                                              int64_t count, Rows<float> c, const float* bias) {
  for (int64_t first = 0; first < count; first += kPairRows) {
    const std::byte* rows = a + first / kTileEdge * depth * kStep + first % kTileEdge * 64;
    __m512 sums[kPairRows][2];
#pragma GCC unroll 8
    for (int r = 0; r < kPairRows; ++r) {
      sums[r][0] = kStart == TileStart::kBias ? _mm512_loadu_ps(bias) : __m512{};
      sums[r][1] = kStart == TileStart::kBias ? _mm512_loadu_ps(bias + kTileEdge) : __m512{};
    }
    const auto add = [&](int64_t tile, int of_a, int of_b) __attribute__((always_inline)) {
      add_pair_products(rows + tile * kStep + of_a * kTileBytes,
                        b + 2 * tile * kStep + of_b * kTileBytes, kStep, sums);
    };
    for (int64_t tile = 0; kParts == 2 && tile < depth; ++tile) {
      add(tile, 1, 0);
      add(tile, 0, 1);
    }
    for (int64_t tile = 0; tile < depth; ++tile) add(tile, 0, 0);
    const int64_t left = std::min<int64_t>(count - first, kPairRows);
#pragma GCC unroll 8
    for (int r = 0; r < kPairRows; ++r) {
      if (r >= left) break;
      float* to = c.row(first + r);
      if constexpr (kStart == TileStart::kAdd) {
        sums[r][0] += _mm512_loadu_ps(to);
        sums[r][1] += _mm512_loadu_ps(to + kTileEdge);
      }
      _mm512_storeu_ps(to, sums[r][0]);
      _mm512_storeu_ps(to + kTileEdge, sums[r][1]);
    }
  }
}
