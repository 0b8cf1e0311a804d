// Vectors of the namespace this is included in (see isa.h): Vec<float> and Vec<double>, 32 bytes
// wide when compiled for AVX2 + FMA, otherwise 16 bytes, which SSE2 and NEON both have. Written
// with the vector extensions of gcc and clang; intrinsics only where those compile badly. No
// #include and no namespace here; simd.h must come first, outside the namespace.

#if defined(__AVX2__) && defined(__FMA__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

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

// a * b + c, with one rounding where the instruction set has it.
#if defined(__AVX2__) && defined(__FMA__)
MCLREC_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
  return _mm256_fmadd_ps(a, b, c);
}
MCLREC_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
  return _mm256_fmadd_pd(a, b, c);
}
// The larger; the second where either is NaN.
MCLREC_INLINE Vec<float> max(Vec<float> a, Vec<float> b) { return _mm256_max_ps(a, b); }
MCLREC_INLINE Vec<double> max(Vec<double> a, Vec<double> b) { return _mm256_max_pd(a, b); }
#else
template <class V>
MCLREC_INLINE V fma(V a, V b, V c) {
  return a * b + c;
}
template <class V>
MCLREC_INLINE V max(V a, V b) {
  return a > b ? a : b;
}
#endif

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
