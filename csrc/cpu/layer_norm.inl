// Layer normalisation of the rows of a matrix, forward and backward, with hooks that make the row
// on the way in and take it on the way out, so that residuals, dropout and bias gradients cost no
// pass of their own. Four rows go in step: their sums and square roots then overlap.
// Rows are `stride` elements apart (whole vectors); elements from `hidden` to `stride` are padding,
// read as anything and written as 0. About 9 operations an element forward, 11 backward.
// No #include and no namespace here: simd.h comes first, outside the namespace, then simd.inl
// inside it.

constexpr int kNormRows = 4;

struct NormShape {
  int64_t hidden;  // D
  int64_t stride;  // elements from one row to the next, a multiple of kLanes
};

// `stride` elements each, zero in padding.
template <class T>
struct NormWeights {
  const T* gamma;
  const T* beta;
  T eps;
};

// What the forward pass leaves: (r - mean) / sqrt(var + eps) [rows][stride], and
// 1 / sqrt(var + eps) [rows].
template <class T>
struct NormKept {
  T* xhat;
  T* inverse;
};

// What the backward pass reads (grad may be overwritten by its output), and the sums it adds to.
template <class T>
struct NormBackward {
  const T* gamma;
  const T* grad;  // [rows][stride]
  const T* xhat;
  const T* inverse;
  T* grad_gamma;  // [stride]
  T* grad_beta;   // [stride]
};

// visit(c, lanes) for each vector c of a row that holds elements; `lanes` masks those of the last.
// The common case has no partial vector, and there the mask disappears.
template <class T>
struct AllLanes {
  MCLREC_INLINE Vec<T> operator()(Vec<T> value) const { return value; }
};
template <class T>
struct SomeLanes {
  IntVec<T> lanes;
  MCLREC_INLINE Vec<T> operator()(Vec<T> value) const { return (Vec<T>)((IntVec<T>)value & lanes); }
};

template <class T, class Visit>
MCLREC_INLINE void each_vector(int64_t hidden, const Visit& visit) {
  const int64_t full = hidden / kLanes<T>;
  for (int64_t c = 0; c < full; ++c) visit(c, AllLanes<T>{});
  if (full * kLanes<T> < hidden) {
    visit(full, SomeLanes<T>{first_lanes<T>(hidden - full * kLanes<T>)});
  }
}

// input(row, c) gives vector c of a row of r, zero in padding; xhat and inverse are stored;
// output(row, c, y) takes y = gamma xhat + beta.
template <int R, class T, class Input, class Output>
MCLREC_INLINE void norm_forward_rows(int64_t row, NormShape shape, const NormWeights<T>& weights,
                                     const Input& input, const NormKept<T>& kept,
                                     const Output& output) {
  constexpr int kL = kLanes<T>;
  const T count = static_cast<T>(shape.hidden), eps = weights.eps;
  const T* gamma = weights.gamma;
  const T* beta = weights.beta;
  T* xhat = kept.xhat + row * shape.stride;
  T* inverse = kept.inverse;
  Vec<T> sum[R] = {}, mean[R], square[R] = {}, scale[R];
  each_vector<T>(shape.hidden, [&](int64_t c, auto) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec<T> value = input(row + r, c);
      store(xhat + r * shape.stride + c * kL, value);
      sum[r] += value;
    }
  });
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) mean[r] = broadcast<T>(lane_sum<T>(sum[r]) / count);
  each_vector<T>(shape.hidden, [&](int64_t c, auto lanes) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec<T> d = lanes(load(xhat + r * shape.stride + c * kL) - mean[r]);
      square[r] = fma(d, d, square[r]);
    }
  });
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    const T variance = lane_sum<T>(square[r]) / count + eps;
    // NaN where the variance overflows: 1 / infinity would make numbers of it.
    inverse[row + r] = T(1) / std::sqrt(variance) + (variance - variance);
    scale[r] = broadcast<T>(inverse[row + r]);
  }
  each_vector<T>(shape.hidden, [&](int64_t c, auto lanes) __attribute__((always_inline)) {
    const Vec<T> g = load(gamma + c * kL), b = load(beta + c * kL);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      T* place = xhat + r * shape.stride + c * kL;
      const Vec<T> normal = lanes((load(place) - mean[r]) * scale[r]);
      store(place, normal);
      output(row + r, c, fma(normal, g, b));
    }
  });
  for (int64_t c = ceil_div(shape.hidden, kL); c < shape.stride / kL; ++c) {
    for (int r = 0; r < R; ++r) {
      store(xhat + r * shape.stride + c * kL, Vec<T>{});
      output(row + r, c, Vec<T>{});
    }
  }
}

template <class T, class Input, class Output>
MCLREC_INLINE void norm_forward(int64_t rows, NormShape shape, const NormWeights<T>& weights,
                                const Input& input, const NormKept<T>& kept, const Output& output) {
  int64_t row = 0;
  for (; row + kNormRows <= rows; row += kNormRows) {
    norm_forward_rows<kNormRows>(row, shape, weights, input, kept, output);
  }
  for (; row < rows; ++row) {
    norm_forward_rows<1>(row, shape, weights, input, kept, output);
  }
}

// With g = gamma dy: dr = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + eps). Adds dy xhat to
// grad_gamma and dy to grad_beta; output(row, c, dr) takes vector c of the R rows from `row` on.
template <int R, class T, class Output>
MCLREC_INLINE void norm_backward_rows(int64_t row, NormShape shape, const NormBackward<T>& norm,
                                      const Output& output) {
  constexpr int kL = kLanes<T>;
  const T count = static_cast<T>(shape.hidden);
  const T* gamma = norm.gamma;
  const T* grad = norm.grad + row * shape.stride;
  const T* xhat = norm.xhat + row * shape.stride;
  const T* inverse = norm.inverse;
  T* grad_gamma = norm.grad_gamma;
  T* grad_beta = norm.grad_beta;
  Vec<T> sum[R] = {}, product[R] = {}, scale[R];
  each_vector<T>(shape.hidden, [&](int64_t c, auto) __attribute__((always_inline)) {
    const Vec<T> g = load(gamma + c * kL);
    Vec<T> dgamma = {}, dbeta = {};
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec<T> dy = load(grad + r * shape.stride + c * kL);
      const Vec<T> x = load(xhat + r * shape.stride + c * kL);
      dgamma = fma(dy, x, dgamma);
      dbeta += dy;
      const Vec<T> gdy = dy * g;
      sum[r] += gdy;
      product[r] = fma(gdy, x, product[r]);
    }
    store(grad_gamma + c * kL, load(grad_gamma + c * kL) + dgamma);
    store(grad_beta + c * kL, load(grad_beta + c * kL) + dbeta);
  });
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    scale[r] = broadcast<T>(inverse[row + r]);
    sum[r] = broadcast<T>(lane_sum<T>(sum[r]) / count);
    product[r] = broadcast<T>(lane_sum<T>(product[r]) / count);
  }
  each_vector<T>(shape.hidden, [&](int64_t c, auto lanes) __attribute__((always_inline)) {
    const Vec<T> g = load(gamma + c * kL);
    Vec<T> dr[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec<T> dy = load(grad + r * shape.stride + c * kL);
      const Vec<T> x = load(xhat + r * shape.stride + c * kL);
      dr[r] = lanes((fma(dy, g, -sum[r]) - x * product[r]) * scale[r]);
    }
    output(row, c, dr);
  });
  for (int64_t c = ceil_div(shape.hidden, kL); c < shape.stride / kL; ++c) {
    const Vec<T> zero[R] = {};
    output(row, c, zero);
  }
}

template <class T, class Output>
MCLREC_INLINE void norm_backward(int64_t rows, NormShape shape, const NormBackward<T>& norm,
                                 const Output& output) {
  int64_t row = 0;
  for (; row + kNormRows <= rows; row += kNormRows) {
    norm_backward_rows<kNormRows>(row, shape, norm, output);
  }
  for (; row < rows; ++row) {
    norm_backward_rows<1>(row, shape, norm, output);
  }
}
