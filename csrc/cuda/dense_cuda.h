// Launchers of the dense layers' products: forward, gradient of the input, gradient of the weights.
// Torch-free; row counts may live on the device, so that nothing waits for them.
#pragma once

#include <cstdint>

#include "precision.h"

namespace mclrec::cuda {

// How many of `capacity` rows are real: all, or *on_device of them.
struct RowCount {
  std::int64_t capacity;
  const std::int32_t* on_device;  // null: all
};

// C = A W^T + bias, A [M, K], W [N, K], C [M, N]; with `pre`, pre = A W^T + bias and C = GELU(pre).
// The product `z` of several takes weights z of `w`, or step by step the parts of one (heads).
template <typename Real>
struct Dense {
  RowCount rows;       // M
  int depth, columns;  // K, N
  const Real* a;       // rows `a_stride` apart
  std::int64_t a_stride, c_stride, w_stride;
  int products;  // at most 3 if listed in w, bias and c
  const Real* w[3];
  const Real* bias[3];  // null: none
  Real* c[3];
  bool listed;  // w[z], bias[z], c[z]; otherwise [0] and the steps below
  std::int64_t a_step, w_step, bias_step, c_step;
  const Real* bias_scale;  // [M, products]: row m's bias counts bias_scale[m, z] times; or null
  Real* pre;               // [M, N], or null
};

// C = sum over terms of A_t W_t (+ add), A_t [M, K], W_t [K, N], C [M, N]; with `pre`,
// C = (sum) * GELU'(pre). Products step by step as in Dense.
template <typename Real>
struct DenseInputGradient {
  RowCount rows;
  int depth, columns;
  int terms;  // at most 3
  const Real* a[3];
  const Real* w[3];
  Real* c;
  std::int64_t a_stride, w_stride, c_stride;
  int products;
  std::int64_t a_step, w_step, c_step;
  const Real* add;  // [M, N] contiguous, or null
  const Real* pre;  // [M, N] contiguous, or null
};

// dW = sum over rows of dy^T x, [N, K], and db = sum over rows of dy, [N], as partial sums over
// blocks of `rows_per_split` rows, which sum_partials adds up.
template <typename Real>
struct WeightGradientJob {
  const Real* dy;
  const Real* x;
  std::int64_t dy_stride, x_stride;
  int n, k;
  RowCount rows;
  int rows_per_split;  // a multiple of 32
  Real* partial;       // [splits, partial_stride]: n k of dW, then n of db
  std::int64_t partial_stride;
  const Real* bias_scale;  // as in Dense, `bias_scale_stride` apart; or null
  int bias_scale_stride;
};

inline constexpr int kMaxWeightJobs = 24;
inline constexpr int kMaxSums = 40;

template <typename Real>
struct WeightGradients {
  int jobs;
  WeightGradientJob<Real> job[kMaxWeightJobs];
};

// out[i] = sum over splits of partial[split, i], in order; the splits that hold real rows.
template <typename Real>
struct SumJob {
  const Real* partial;
  std::int64_t stride;
  std::int64_t count;
  RowCount rows;
  int rows_per_split;
  Real* out;
};

template <typename Real>
struct Sums {
  int jobs;
  SumJob<Real> job[kMaxSums];
};

template <typename Real>
void dense(const Dense<Real>& job, Precision precision, void* stream);
template <typename Real>
void dense_input_gradient(const DenseInputGradient<Real>& job, Precision precision, void* stream);
template <typename Real>
void dense_weight_gradients(const WeightGradients<Real>& jobs, Precision precision, void* stream);
template <typename Real>
void sum_partials(const Sums<Real>& jobs, void* stream);

}  // namespace mclrec::cuda
