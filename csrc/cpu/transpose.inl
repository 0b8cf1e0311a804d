// Transposing blocks of kLanes x kLanes elements. No #include and no namespace here: simd.h comes
// first, outside the namespace, then simd.inl inside it.

// out[e * out_stride + r] = rows[r][e] for e, r < kLanes.
template <class T>
MCLREC_INLINE void turn_block(const T* const* rows, int64_t first, T* out, int64_t out_stride) {
#if MCLREC_X86
  if constexpr (kVectorBytes == 32 && sizeof(T) == 4) {
    // Rows r and r + 4 share a register from the start, so nothing crosses its halves later.
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      __m256 row[4];
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        const __m128 low = _mm_loadu_ps(rows[r] + first + 4 * half);
        row[r] = _mm256_insertf128_ps(_mm256_castps128_ps256(low),
                                      _mm_loadu_ps(rows[r + 4] + first + 4 * half), 1);
      }
      const __m256 a = _mm256_unpacklo_ps(row[0], row[1]), b = _mm256_unpackhi_ps(row[0], row[1]);
      const __m256 c = _mm256_unpacklo_ps(row[2], row[3]), d = _mm256_unpackhi_ps(row[2], row[3]);
      T* to = out + 4 * half * out_stride;
      _mm256_storeu_ps(to, _mm256_shuffle_ps(a, c, 0x44));
      _mm256_storeu_ps(to + out_stride, _mm256_shuffle_ps(a, c, 0xEE));
      _mm256_storeu_ps(to + 2 * out_stride, _mm256_shuffle_ps(b, d, 0x44));
      _mm256_storeu_ps(to + 3 * out_stride, _mm256_shuffle_ps(b, d, 0xEE));
    }
    return;
  }
  if constexpr (kVectorBytes == 64 && sizeof(T) == 4) {
    turn_16([&](int r) __attribute__((always_inline)) { return rows[r] + first; }, out, out_stride);
    return;
  }
#endif
  for (int r = 0; r < kLanes<T>; ++r) {
    for (int e = 0; e < kLanes<T>; ++e) out[e * out_stride + r] = rows[r][first + e];
  }
}

// out [size][kLanes]: `count` rows (1 <= count <= kLanes) of `size` elements, turned so that a row
// is a lane. Lanes beyond `count` repeat the last row. `size` is a multiple of kLanes.
template <class T>
MCLREC_INLINE void rows_to_lanes(const T* rows, int64_t stride, int64_t count, int64_t size,
                                 T* out) {
  const T* row[kLanes<T>];
  for (int r = 0; r < kLanes<T>; ++r) row[r] = rows + (r < count ? r : count - 1) * stride;
  for (int64_t e = 0; e < size; e += kLanes<T>) {
    turn_block<T>(row, e, out + e * kLanes<T>, kLanes<T>);
  }
}
