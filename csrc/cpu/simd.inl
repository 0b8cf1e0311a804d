// Vectors of kVectorBytes, a property of the instruction set this is compiled for (see
// isa/each_set.inl): Vec<float> and Vec<double>, written with the vector extensions of gcc and
// clang; intrinsics only where those compile badly. Intrinsics are chosen by kVectorBytes: 32 is
// AVX2, 64 AVX-512 (a macro test of __AVX2__ would not do: gcc does not define it for a target
// pragma). Where gcc's header warns about an intrinsic of 64 bytes, its form with a full mask is
// used. No #include and no namespace here: simd.h comes first, outside the namespace.
static_assert(kVectorBytes == 16 || kVectorBytes == 32 || kVectorBytes == 64);

template <class T>
struct VectorTypes;
template <>
struct VectorTypes<float> {
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
  typedef int32_t Integers __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorTypes<double> {
  typedef double Vector __attribute__((vector_size(kVectorBytes)));
  typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
  typedef int64_t Integers __attribute__((vector_size(kVectorBytes)));
};

template <class T>
using Vec = typename VectorTypes<T>::Vector;
// Integers of the same width as T; a comparison of two Vec<T> gives one (0 or -1 in each lane).
template <class T>
using IntVec = typename VectorTypes<T>::Integers;
template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T>
MCLREC_INLINE Vec<T> load(const T* from) {
  return *reinterpret_cast<const typename VectorTypes<T>::Unaligned*>(from);
}

template <class T>
MCLREC_INLINE void store(T* to, Vec<T> value) {
  *reinterpret_cast<typename VectorTypes<T>::Unaligned*>(to) = value;
}

#if MCLREC_X86
// For vectors of 64 bytes: a mask of the first `n` lanes, 0 <= n <= kLanes<T>.
template <class T>
using LaneMask = std::conditional_t<sizeof(T) == 4, __mmask16, __mmask8>;
template <class T>
constexpr LaneMask<T> kAllLanes = static_cast<LaneMask<T>>(~0u);
template <class T>
MCLREC_INLINE LaneMask<T> first_bits(int64_t n) {
  return static_cast<LaneMask<T>>((1u << n) - 1);
}
#endif

// The first `n` lanes (0 <= n <= kLanes<T>); nothing beyond them is read, the others are zero.
template <class T>
MCLREC_INLINE Vec<T> load_first(const T* from, int n) {
#if MCLREC_X86
  if constexpr (kVectorBytes == 64) {
    if constexpr (sizeof(T) == 4) {
      return (Vec<T>)_mm512_maskz_loadu_ps(first_bits<T>(n), from);
    } else {
      return (Vec<T>)_mm512_maskz_loadu_pd(first_bits<T>(n), from);
    }
  }
#endif
  Vec<T> value = {};
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < n) value[i] = from[i];
  }
  return value;
}

template <class T>
MCLREC_INLINE void store_first(T* to, Vec<T> value, int n) {
#if MCLREC_X86
  if constexpr (kVectorBytes == 64) {
    if constexpr (sizeof(T) == 4) {
      return _mm512_mask_storeu_ps(to, first_bits<T>(n), (__m512)value);
    } else {
      return _mm512_mask_storeu_pd(to, first_bits<T>(n), (__m512d)value);
    }
  }
#endif
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < n) to[i] = value[i];
  }
}

template <class T>
MCLREC_INLINE Vec<T> broadcast(T value) {
#if MCLREC_X86
  if constexpr (kVectorBytes == 64) {
    if constexpr (sizeof(T) == 4) {
      return (Vec<T>)_mm512_set1_ps(value);
    } else {
      return (Vec<T>)_mm512_set1_pd(value);
    }
  }
#endif
  if constexpr (kVectorBytes == 32 && sizeof(T) == 4) {
    return Vec<T>{value, value, value, value, value, value, value, value};
  } else if constexpr (kLanes<T> == 4) {
    return Vec<T>{value, value, value, value};
  } else {
    return Vec<T>{value, value};
  }
}

// a * b + c, rounded once where the instruction set can.
template <class V>
MCLREC_INLINE V fma(V a, V b, V c) {
#if MCLREC_X86
  if constexpr (kVectorBytes == 32) {
    if constexpr (sizeof(a[0]) == 4) {
      return (V)_mm256_fmadd_ps(a, b, c);
    } else {
      return (V)_mm256_fmadd_pd(a, b, c);
    }
  }
  if constexpr (kVectorBytes == 64) {
    if constexpr (sizeof(a[0]) == 4) {
      return (V)_mm512_fmadd_ps(a, b, c);
    } else {
      return (V)_mm512_fmadd_pd(a, b, c);
    }
  }
#endif
  return a * b + c;
}

// The larger of two lanes; the second where either is NaN.
template <class V>
MCLREC_INLINE V max(V a, V b) {
#if MCLREC_X86
  if constexpr (kVectorBytes == 32) {
    if constexpr (sizeof(a[0]) == 4) {
      return (V)_mm256_max_ps(a, b);
    } else {
      return (V)_mm256_max_pd(a, b);
    }
  }
  if constexpr (kVectorBytes == 64) {
    if constexpr (sizeof(a[0]) == 4) {
      return (V)_mm512_maskz_max_ps(kAllLanes<float>, a, b);
    } else {
      return (V)_mm512_maskz_max_pd(kAllLanes<double>, a, b);
    }
  }
#endif
  return a > b ? a : b;
}

template <class V>
MCLREC_INLINE V square_root(V a) {
#if MCLREC_X86
  if constexpr (kVectorBytes == 32) {
    if constexpr (sizeof(a[0]) == 4) {
      return (V)_mm256_sqrt_ps(a);
    } else {
      return (V)_mm256_sqrt_pd(a);
    }
  }
  if constexpr (kVectorBytes == 64) {
    if constexpr (sizeof(a[0]) == 4) {
      return (V)_mm512_maskz_sqrt_ps(kAllLanes<float>, a);
    } else {
      return (V)_mm512_maskz_sqrt_pd(kAllLanes<double>, a);
    }
  }
#endif
  for (size_t i = 0; i < sizeof(V) / sizeof(a[0]); ++i) a[i] = std::sqrt(a[i]);
  return a;
}

#if MCLREC_X86
MCLREC_INLINE __m256 lower_half(__m512 v) {
  return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
}
MCLREC_INLINE __m256 upper_half(__m512 v) {
  return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
}
#endif

template <class T>
MCLREC_INLINE T lane_sum(Vec<T> value) {
#if MCLREC_X86
  if constexpr (kVectorBytes == 64 && sizeof(T) == 4) {
    // The same pairs as below.
    const __m256 half = lower_half((__m512)value) + upper_half((__m512)value);
    const __m128 quarter = _mm256_castps256_ps128(half) + _mm256_extractf128_ps(half, 1);
    const __m128 pair = quarter + _mm_movehl_ps(quarter, quarter);
    return pair[0] + pair[1];
  }
#endif
  T sum[kLanes<T>];
  std::memcpy(sum, &value, sizeof(value));
  for (int width = kLanes<T> / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) sum[i] += sum[i + width];
  }
  return sum[0];
}

template <class T>
MCLREC_INLINE T lane_max(Vec<T> value) {
#if MCLREC_X86
  if constexpr (kVectorBytes == 64 && sizeof(T) == 4) {
    const __m256 half = _mm256_max_ps(upper_half((__m512)value), lower_half((__m512)value));
    const __m128 quarter = _mm_max_ps(_mm256_extractf128_ps(half, 1), _mm256_castps256_ps128(half));
    const __m128 pair = _mm_max_ps(_mm_movehl_ps(quarter, quarter), quarter);
    return _mm_max_ps(_mm_movehdup_ps(pair), pair)[0];
  }
#endif
  T largest = value[0];
  for (int i = 1; i < kLanes<T>; ++i) largest = value[i] > largest ? value[i] : largest;
  return largest;
}

// A comparison's result as bits, lane 0 lowest.
template <class T>
MCLREC_INLINE uint32_t lane_bits(IntVec<T> hits) {
#if MCLREC_X86
  if constexpr (kVectorBytes == 32) {
    if constexpr (sizeof(T) == 4) {
      return static_cast<uint32_t>(_mm256_movemask_ps((__m256)hits));
    } else {
      return static_cast<uint32_t>(_mm256_movemask_pd((__m256d)hits));
    }
  }
  if constexpr (kVectorBytes == 64) {
    if constexpr (sizeof(T) == 4) {
      return _mm512_movepi32_mask((__m512i)hits);
    } else {
      return _mm512_movepi64_mask((__m512i)hits);
    }
  }
#endif
  uint32_t bits = 0;
  for (int i = 0; i < kLanes<T>; ++i) bits |= hits[i] ? 1u << i : 0u;
  return bits;
}

// All ones in the first `count` lanes.
template <class T>
MCLREC_INLINE IntVec<T> first_lanes(int64_t count) {
#if MCLREC_X86
  if constexpr (kVectorBytes == 64) {
    const LaneMask<T> bits = first_bits<T>(count < kLanes<T> ? (count > 0 ? count : 0) : kLanes<T>);
    if constexpr (sizeof(T) == 4) {
      return (IntVec<T>)_mm512_movm_epi32(bits);
    } else {
      return (IntVec<T>)_mm512_movm_epi64(bits);
    }
  }
#endif
  IntVec<T> lanes = {};
  for (int i = 0; i < kLanes<T>; ++i) lanes[i] = i < count ? -1 : 0;
  return lanes;
}

#if MCLREC_X86
// For vectors of 64 bytes: to[i * to_step + j] = row(j)[i] for i, j < 16.
template <class Row>
MCLREC_INLINE void turn_16(const Row& row, float* to, int64_t to_step) {
  // Rows r, r + 4, r + 8 and r + 12 share a register, four columns of each at a time.
#pragma GCC unroll 4
  for (int column = 0; column < 16; column += 4, to += 4 * to_step) {
    __m512 four[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      four[r] = _mm512_castps128_ps512(_mm_loadu_ps(row(r) + column));
      four[r] = _mm512_mask_broadcast_f32x4(four[r], 0x00f0, _mm_loadu_ps(row(r + 4) + column));
      four[r] = _mm512_mask_broadcast_f32x4(four[r], 0x0f00, _mm_loadu_ps(row(r + 8) + column));
      four[r] = _mm512_mask_broadcast_f32x4(four[r], 0xf000, _mm_loadu_ps(row(r + 12) + column));
    }
    const __mmask16 all = kAllLanes<float>;
    const __m512 a = _mm512_maskz_unpacklo_ps(all, four[0], four[1]);
    const __m512 b = _mm512_maskz_unpackhi_ps(all, four[0], four[1]);
    const __m512 c = _mm512_maskz_unpacklo_ps(all, four[2], four[3]);
    const __m512 d = _mm512_maskz_unpackhi_ps(all, four[2], four[3]);
    _mm512_storeu_ps(to, _mm512_maskz_shuffle_ps(all, a, c, 0x44));
    _mm512_storeu_ps(to + to_step, _mm512_maskz_shuffle_ps(all, a, c, 0xee));
    _mm512_storeu_ps(to + 2 * to_step, _mm512_maskz_shuffle_ps(all, b, d, 0x44));
    _mm512_storeu_ps(to + 3 * to_step, _mm512_maskz_shuffle_ps(all, b, d, 0xee));
  }
}

// For vectors of 32 and 64 bytes: writes a kLanes x kLanes block transposed, to[i * to_step + j] =
// from[j * from_step + i].
template <class T>
MCLREC_INLINE void transpose_block(const T* from, int64_t from_step, T* to, int64_t to_step) {
  if constexpr (kVectorBytes == 64 && sizeof(T) == 4) {
    turn_16([&](int r) __attribute__((always_inline)) { return from + r * from_step; }, to,
            to_step);
  } else if constexpr (kVectorBytes == 64) {
    for (int i = 0; i < kLanes<T>; ++i) {
      for (int j = 0; j < kLanes<T>; ++j) to[i * to_step + j] = from[j * from_step + i];
    }
  } else if constexpr (sizeof(T) == 8) {
    __m256d row[4], pair[4];
    for (int i = 0; i < 4; ++i) row[i] = _mm256_loadu_pd(from + i * from_step);
    for (int i = 0; i < 4; i += 2) {
      pair[i] = _mm256_unpacklo_pd(row[i], row[i + 1]);
      pair[i + 1] = _mm256_unpackhi_pd(row[i], row[i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
      _mm256_storeu_pd(to + i * to_step, _mm256_permute2f128_pd(pair[i], pair[i + 2], 0x20));
      _mm256_storeu_pd(to + (i + 2) * to_step, _mm256_permute2f128_pd(pair[i], pair[i + 2], 0x31));
    }
  } else {
    __m256 row[8], pair[8], quad[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) row[i] = _mm256_loadu_ps(from + i * from_step);
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);      // columns 0 1 (4 5) of two rows
      pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);  // columns 2 3 (6 7)
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
      quad[i] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0x44);  // column 0 (4) of four rows
      quad[i + 1] = _mm256_shuffle_ps(pair[i], pair[i + 2], 0xee);
      quad[i + 2] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0x44);
      quad[i + 3] = _mm256_shuffle_ps(pair[i + 1], pair[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      _mm256_storeu_ps(to + i * to_step, _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x20));
      _mm256_storeu_ps(to + (i + 4) * to_step, _mm256_permute2f128_ps(quad[i], quad[i + 4], 0x31));
    }
  }
}
#endif
