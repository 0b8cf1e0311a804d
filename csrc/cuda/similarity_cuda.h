// Launchers of the similarity kernels: softmax statistics of the rows of X Y^T, the losses they
// give and gradients from recomputed products. `info_nce` and `contrast` are lists of these jobs.
// Torch-free: plain structs, device pointers and a stream; nothing waits for the device.
#pragma once

#include <cstdint>

#include "precision.h"

namespace mclrec::cuda {

inline constexpr int kMaxStrips = 14;  // four self and six cross, and four of an L_cl1 of its own
inline constexpr int kMaxPairs = 4;
inline constexpr int kMaxViews = 4;
inline constexpr int kMaxTerms = 5;
inline constexpr int kMaxLosses = 3;

// B rows of D numbers, `stride` apart.
template <typename Real>
struct View {
  const Real* rows;     // [B, D]
  std::int64_t stride;  // numbers from row to row
};

// What a strip leaves of scale * X Y^T, row by row. Off the diagonal are the negatives; on it are
// the positives of a cross strip and nothing of a self strip (X is Y).
template <typename Real>
struct StripStatistics {
  Real* max;               // [B] largest of the row, with the positive
  Real* sum;               // [B] sum of exp(s - max)
  Real* weight;            // [B] see PairJob
  Real* positive;          // [B] cross strips only, else null
  Real* negative_max;      // [B] the largest negative; null (with the next two) if nobody asks
  Real* negative_sum;      // [B] sum of the negatives
  std::int32_t* negative;  // [B] column of the largest negative, the first of equals
};

template <typename Real>
struct StripJob {
  View<Real> x, y;
  Real scale;
  bool self;
  StripStatistics<Real> out;
};

// The contrast of views a and b, and their regulariser, from the statistics of their four strips.
template <typename Real>
struct PairJob {
  StripStatistics<Real> aa, bb, ab, ba;
  int contrast;     // index of the loss that con(a, b) is added to
  int regulariser;  // index of the loss that reg(a, b) is added to, or -1
  // For the gradient. A row's softmax over its self and cross strip is, in either strip,
  // weight * exp(s - max). A view's self strip serves every pair the view is in: weight and d_self
  // are sums over them, and the second pair of a view joins the first.
  bool joins[2];     // of a and of b: aa (bb) holds an earlier pair's weight and d_self already
  Real* d_cross[2];  // [B] d reg / d (largest negative of the cross strip), of the rows of a, of b
  Real* d_self[2];   // [B] the same in the self strip
  Real* d_positive;  // [B] d reg / d positive; these three only with a regulariser
};

// One strip's share in the gradient of its rows.
template <typename Real>
struct GradientTerm {
  View<Real> y;
  Real scale;
  bool self;
  int pairs;          // how many pairs use the strip: 1, or 2 for a self strip
  int contrast;       // index of the upstream gradient of their contrast
  int regulariser;    // index of that of their regulariser, or -1
  const Real* max_x;  // [B] StripStatistics::max and weight of the rows of X
  const Real* weight_x;
  const Real* max_y;  // [B] and of Y
  const Real* weight_y;
  const std::int32_t* negative_x;  // [B] StripStatistics::negative of X Y^T
  const std::int32_t* negative_y;  // [B] and of Y X^T
  const Real* d_negative_x;        // [B] PairJob::d_self or d_cross of the rows of X
  const Real* d_negative_y;        // [B] and of Y
  const Real* d_positive;          // [B] cross only
};

template <typename Real>
struct GradientJob {
  View<Real> x;
  Real* grad_x;  // [B, D] contiguous, overwritten
  int terms;
  GradientTerm<Real> term[kMaxTerms];
};

template <typename Real>
struct Statistics {
  int batch, hidden, strips;
  StripJob<Real> strip[kMaxStrips];
};

template <typename Real>
struct Losses {
  int batch, pairs, losses;
  PairJob<Real> pair[kMaxPairs];
  Real* loss[kMaxLosses];  // scalars, overwritten
};

template <typename Real>
struct Gradients {
  int batch, hidden, views;
  GradientJob<Real> view[kMaxViews];
  const Real* upstream[kMaxLosses];  // scalars on the device
};

template <typename Real>
void similarity_statistics(const Statistics<Real>& job, Precision precision, void* stream);
template <typename Real>
void similarity_losses(const Losses<Real>& job, void* stream);
template <typename Real>
void similarity_gradients(const Gradients<Real>& job, Precision precision, void* stream);

// Rows of unit length, x / max(|x|, eps), and the lengths of x.
template <typename Real>
struct UnitRows {
  int batch, hidden;
  Real eps;
  Real* rows;  // [B, D] contiguous
  Real* norm;  // [B]
};

template <typename Real>
void normalise_rows(const View<Real>& x, const UnitRows<Real>& unit, void* stream);

// grad_x from the gradient of the rows of unit length; added to grad_x if `accumulate`.
template <typename Real>
void normalise_rows_backward(const UnitRows<Real>& unit, const Real* grad_unit, bool accumulate,
                             Real* grad_x, void* stream);

}  // namespace mclrec::cuda
