// Vectors of the namespace this is included in (see isa.h): Vec<float> and Vec<double>, written
// with the vector extensions of gcc and clang; intrinsics only where those compile badly.
//
// No #include and no namespace here: simd.h comes first, outside the namespace, and inside it
//   constexpr int kVectorBytes = 16;  // portable: SSE2 and NEON both have such vectors
//   constexpr int kVectorBytes = 32;  // between MCLREC_AVX2_BEGIN and MCLREC_AVX2_END
// (a macro test of __AVX2__ would not do: gcc does not define it for a target pragma).
static_assert(kVectorBytes == 16 || kVectorBytes == 32);

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

// The first `n` lanes (0 <= n <= kLanes<T>); nothing beyond them is read, the others are zero.
template <class T>
MCLREC_INLINE Vec<T> load_first(const T* from, int n) {
  Vec<T> value = {};
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < n) value[i] = from[i];
  }
  return value;
}

template <class T>
MCLREC_INLINE void store_first(T* to, Vec<T> value, int n) {
  for (int i = 0; i < kLanes<T>; ++i) {
    if (i < n) to[i] = value[i];
  }
}

template <class T>
MCLREC_INLINE Vec<T> broadcast(T value) {
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
#if MCLREC_HAS_AVX2
  if constexpr (kVectorBytes == 32) {
    if constexpr (sizeof(a[0]) == 4) {
      return (V)_mm256_fmadd_ps(a, b, c);
    } else {
      return (V)_mm256_fmadd_pd(a, b, c);
    }
  }
#endif
  return a * b + c;
}

// The larger of two lanes; the second where either is NaN.
template <class V>
MCLREC_INLINE V max(V a, V b) {
#if MCLREC_HAS_AVX2
  if constexpr (kVectorBytes == 32) {
    if constexpr (sizeof(a[0]) == 4) {
      return (V)_mm256_max_ps(a, b);
    } else {
      return (V)_mm256_max_pd(a, b);
    }
  }
#endif
  return a > b ? a : b;
}

template <class T>
MCLREC_INLINE T lane_sum(Vec<T> value) {
  T sum[kLanes<T>];
  std::memcpy(sum, &value, sizeof(value));
  for (int width = kLanes<T> / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) sum[i] += sum[i + width];
  }
  return sum[0];
}

template <class T>
MCLREC_INLINE T lane_max(Vec<T> value) {
  T largest = value[0];
  for (int i = 1; i < kLanes<T>; ++i) largest = value[i] > largest ? value[i] : largest;
  return largest;
}

// A comparison's result as bits, lane 0 lowest.
template <class T>
MCLREC_INLINE int lane_bits(IntVec<T> hits) {
#if MCLREC_HAS_AVX2
  if constexpr (kVectorBytes == 32) {
    if constexpr (sizeof(T) == 4) {
      return _mm256_movemask_ps((__m256)hits);
    } else {
      return _mm256_movemask_pd((__m256d)hits);
    }
  }
#endif
  int bits = 0;
  for (int i = 0; i < kLanes<T>; ++i) bits |= hits[i] ? 1 << i : 0;
  return bits;
}

#if MCLREC_HAS_AVX2
// For vectors of 32 bytes: writes a kLanes x kLanes block transposed, to[i * to_step + j] = from[j
// * from_step + i].
template <class T>
MCLREC_INLINE void transpose_block(const T* from, int64_t from_step, T* to, int64_t to_step) {
  if constexpr (sizeof(T) == 8) {
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
