// The engine behind info_nce and contrast: softmax losses over the similarities of the rows of a
// few views, from the distinct B x B blocks of their products, forward and backward; torch-free. A
// pair of views (u, v) is contrasted as in Eq. 8 of Qin et al. 2023: each of the 2B rows against
// all others, its other view being the positive. A block serves every pair it occurs in.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "../shared/contrast.h"

namespace mclrec {

constexpr int kMaxViews = 4;
constexpr int kMaxPairs = 4;

struct SimilarityPair {
  int u, v;          // views, u < v; no two pairs of a problem are the same
  int loss;          // index of the loss that the pair's contrast is added to
  bool regularised;  // its regulariser (Eq. 11-13) is added to the problem's; temperature 1, dot
};

template <class T>
struct SimilarityProblem {
  int views = 0;
  const T* x[kMaxViews] = {};  // [batch, hidden] each, dense
  int64_t batch = 0;           // B >= 2
  int64_t hidden = 0;          // D
  double temperature = 1.0;
  bool cosine = false;
  int pairs = 0;
  SimilarityPair pair[kMaxPairs] = {};
};

// Elements that similarity_forward leaves for similarity_backward: row statistics, and the
// exponentials of all blocks as long as B <= 1024.
template <class T>
SimilarityStateSize similarity_state_size(const SimilarityProblem<T>& problem);

struct SimilarityLosses {
  double contrast[kMaxPairs] = {};  // by SimilarityPair::loss
  double regulariser = 0.0;
};

// `values` and `indices` (see similarity_state_size) may both be null where no gradient is wanted.
template <class T>
SimilarityLosses similarity_forward(const SimilarityProblem<T>& problem, T* values,
                                    int32_t* indices);

// The contrast of a single row, which has no negatives: 0, or NaN where its positive is not finite.
template <class T>
T one_row_loss(const T* u, const T* v, int64_t hidden, bool cosine) {
  const auto length = [&](const T* x) {
    T sum = 0;
    for (int64_t d = 0; cosine && d < hidden; ++d) sum += x[d] * x[d];
    return cosine ? std::max(std::sqrt(sum), T(1e-8)) : T(1);
  };
  const T u_length = length(u), v_length = length(v);
  T positive = 0;
  for (int64_t d = 0; d < hidden; ++d) positive += (u[d] / u_length) * (v[d] / v_length);
  return positive - positive;
}

// What arrives from above, and where the gradients go.
template <class T>
struct SimilarityGradients {
  T contrast[kMaxPairs] = {};  // d / d loss, by SimilarityPair::loss
  T regulariser = 0;
  T* x[kMaxViews] = {};  // [batch, hidden], null where not wanted
  bool add = false;      // add to what is there instead of overwriting it
};

template <class T>
void similarity_backward(const SimilarityProblem<T>& problem, const T* values,
                         const int32_t* indices, const SimilarityGradients<T>& gradients);

}  // namespace mclrec
