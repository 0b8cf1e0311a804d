// Elementary functions on the vectors of simd.inl (included before, in the same namespace): exp,
// and the normal distribution for GELU. float by polynomials with the errors stated, double lane by
// lane through the standard library. NaN gives NaN; no flag of the floating-point unit is touched.

// exp(x) for x <= 0. float: x = n ln 2 + r with |r| <= ln(2)/2, exp(r) = 1 + r + r^2 q(r), q of
// degree 4 (minimax, 3e-9; 1e-7 with rounding, relative); 0 below -87.7. Needs some four
// independent vectors in flight to run at full speed.
MCLREC_INLINE Vec<float> exp_nonpositive(Vec<float> x) {
  // 1.5 * 2^23 + 127: adding it leaves n + 127, the exponent field of 2^n, in the low bits.
  const float kShift = 12583039.0f;
  x = max(broadcast(-88.0f), x);  // n = -127 there, and the scale 0; NaN passes through
  const Vec<float> shifted = fma(x, broadcast(1.44269504f), broadcast(kShift));
  const Vec<float> n = shifted - kShift;
  Vec<float> r = fma(n, broadcast(-0.693359375f), x);  // ln 2 in two parts, the first in 9 bits
  r = fma(n, broadcast(2.12194440e-4f), r);
  Vec<float> q = broadcast(0.001381461275741458f);
  q = fma(q, r, broadcast(0.008368710055947304f));
  q = fma(q, r, broadcast(0.04166838899254799f));
  q = fma(q, r, broadcast(0.1666652113199234f));
  q = fma(q, r, broadcast(0.4999999403953552f));
  const Vec<float> p = fma(q * r, r, r) + 1.0f;
  return p * (Vec<float>)((IntVec<float>)shifted << 23);
}

// 2^x for x <= 0, in place, for N vectors at once: step by step across the vectors, because a chain
// of fifteen dependent instructions runs at full speed only beside a few others. The softmax
// kernels work in base 2 (their logits are scaled by 1 / ln 2 beforehand), which saves the
// reduction of exp. float: x = n + r with |r| <= 1/2, 2^r = 1 + r q(r), q of degree 5 (minimax,
// 2e-9; 8e-8 with rounding, relative); 0 below -126.5.
template <int N>
MCLREC_INLINE void exp2_nonpositive(Vec<float> (&x)[N]) {
  const float kShift = 12583039.0f;  // as above
  Vec<float> scale[N], p[N];
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) x[i] = max(broadcast(-127.0f), x[i]);
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) scale[i] = x[i] + kShift;
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) x[i] -= scale[i] - kShift;
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) scale[i] = (Vec<float>)((IntVec<float>)scale[i] << 23);
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) {
    p[i] = fma(broadcast(0.00015353361959569156f), x[i], broadcast(0.0013398875016719103f));
  }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) p[i] = fma(p[i], x[i], broadcast(0.00961843691766262f));
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) p[i] = fma(p[i], x[i], broadcast(0.055503323674201965f));
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) p[i] = fma(p[i], x[i], broadcast(0.24022647738456726f));
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) p[i] = fma(p[i], x[i], broadcast(0.6931471824645996f));
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) p[i] = fma(p[i], x[i], broadcast(1.0f));
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) x[i] = p[i] * scale[i];
}

template <int N>
MCLREC_INLINE void exp2_nonpositive(Vec<double> (&x)[N]) {
  for (Vec<double>& v : x) {
    double lane[kLanes<double>];
    store(lane, v);
    for (double& value : lane) value = std::exp2(value);
    v = load(lane);
  }
}

template <class T>
MCLREC_INLINE Vec<T> exp2_nonpositive(Vec<T> x) {
  Vec<T> one[1] = {x};
  exp2_nonpositive(one);
  return one[0];
}

// exp(x) for any x: infinity above 88.3.
MCLREC_INLINE Vec<float> exp(Vec<float> x) { return exp_nonpositive(-max(broadcast(-89.0f), -x)); }

MCLREC_INLINE Vec<double> exp(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = std::exp(x[i]);
  return x;
}

MCLREC_INLINE Vec<double> exp_nonpositive(Vec<double> x) { return exp(x); }

// The standard normal distribution at x: GELU(x) = x cdf, GELU'(x) = cdf + x pdf.
template <class T>
struct Normal {
  Vec<T> cdf;
  Vec<T> pdf;
};

// (|x| - c) / (|x| + c) = 1 - 2 c / (|x| + c), c = 1.5 sqrt(2).
template <class V>
MCLREC_INLINE V tail_argument(V x) {
#if MCLREC_X86
  if constexpr (kVectorBytes == 64) {
    // |x| up to a number that is still finite: Newton's step from a reciprocal of 14 bits has no
    // value at infinity.
    const V one = broadcast(1.0f), large = broadcast(1e6f);
    const V sum = (V)_mm512_maskz_range_ps(kAllLanes<float>, x, large, 0b1010) + 2.1213203f;
    const V rough = (V)_mm512_maskz_rcp14_ps(kAllLanes<float>, sum);
    const V inverse = fma(rough, fma(-sum, rough, one), rough);
    return fma(V{} - 4.2426407f, inverse, one);
  }
#endif
  const V size = (V)((IntVec<float>)x & 0x7fffffff);
  return 1.0f - 4.2426407f / (size + 2.1213203f);
}

// float: the lower tail is exp(-x^2/2) times a polynomial of degree 7 in (|x| - c) / (|x| + c),
// c = 1.5 sqrt(2) (minimax for the absolute error). Absolute error of cdf 1e-7, of pdf 6e-8.
MCLREC_INLINE Normal<float> normal(Vec<float> x) {
  const Vec<float> e = exp2_nonpositive<float>(x * x * -0.72134752f);  // 1 / (2 ln 2)
  const Vec<float> s = tail_argument(x);
  Vec<float> q = broadcast(0.0003553211281541735f);
  q = fma(q, s, broadcast(0.001263004494830966f));
  q = fma(q, s, broadcast(-0.00026672257808968425f));
  q = fma(q, s, broadcast(-0.009266174398362637f));
  q = fma(q, s, broadcast(-0.004618531558662653f));
  q = fma(q, s, broadcast(0.09724488109350204f));
  q = fma(q, s, broadcast(-0.24543574452400208f));
  q = fma(q, s, broadcast(0.16079258918762207f));
  const Vec<float> tail = e * q;
  return {x > 0.0f ? 1.0f - tail : tail, e * 0.3989422804f};
}

MCLREC_INLINE Normal<double> normal(Vec<double> x) {
  Normal<double> result;
  for (int i = 0; i < kLanes<double>; ++i) {
    result.cdf[i] = 0.5 * std::erfc(-0.70710678118654752440 * x[i]);
    result.pdf[i] = 0.39894228040143267794 * std::exp(-0.5 * x[i] * x[i]);
  }
  return result;
}
