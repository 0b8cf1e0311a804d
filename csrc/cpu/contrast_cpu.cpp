// contrast as one or two problems of the similarity engine (see similarity_cpu.cpp for the kernels
// and their cost). Of the ten distinct B x B blocks of four views seven are needed, eight with
// L_cl1.
#include "contrast_cpu.h"

#include <algorithm>
#include <utility>

namespace mclrec {
namespace {

enum View { kH1, kH2, kZ1, kZ2 };
enum Loss { kCl1, kCl2 };

template <class T>
bool separate_cl1(const ContrastParams<T>& params) {
  return params.cl1 && (params.cosine || params.temperature != 1.0);
}

// L_cl2 and the regulariser (Eq. 9-13), with L_cl1 where it fits in.
template <class T>
SimilarityProblem<T> main_problem(const ContrastParams<T>& params) {
  SimilarityProblem<T> problem;
  problem.views = 4;
  std::copy(params.views, params.views + 4, problem.x);
  problem.batch = params.batch;
  problem.hidden = params.hidden;
  problem.pair[problem.pairs++] = {kZ1, kZ2, kCl2, true};
  problem.pair[problem.pairs++] = {kH1, kZ2, kCl2, true};
  problem.pair[problem.pairs++] = {kH2, kZ1, kCl2, true};
  if (params.cl1 && !separate_cl1(params)) problem.pair[problem.pairs++] = {kH1, kH2, kCl1, false};
  return problem;
}

// L_cl1 alone (Eq. 8).
template <class T>
SimilarityProblem<T> cl1_problem(const ContrastParams<T>& params) {
  SimilarityProblem<T> problem;
  problem.views = 2;
  problem.x[0] = params.views[kH1];
  problem.x[1] = params.views[kH2];
  problem.batch = params.batch;
  problem.hidden = params.hidden;
  problem.temperature = params.temperature;
  problem.cosine = params.cosine;
  problem.pair[problem.pairs++] = {0, 1, kCl1, false};
  return problem;
}

// What the losses of one row are: 0, or NaN.
template <class T>
T one_row_cl1(const ContrastParams<T>& params) {
  if (!params.cl1) return 0;
  return one_row_loss(params.views[kH1], params.views[kH2], params.hidden, params.cosine);
}

template <class T>
T one_row_losses(const ContrastParams<T>& params) {
  T sum = 0;
  for (const auto& [u, v] : {std::pair{kZ1, kZ2}, std::pair{kH1, kZ2}, std::pair{kH2, kZ1}}) {
    sum += one_row_loss(params.views[u], params.views[v], params.hidden, false);
  }
  return sum;
}

}  // namespace

template <class T>
SimilarityStateSize contrast_state_size(const ContrastParams<T>& params) {
  if (params.batch == 1) return {0, 0};
  SimilarityStateSize size = similarity_state_size(main_problem(params));
  if (separate_cl1(params)) size.values += similarity_state_size(cl1_problem(params)).values;
  return size;
}

template <class T>
void contrast_forward(const ContrastParams<T>& params, const ContrastLosses<T>& losses, T* values,
                      int32_t* indices) {
  *losses.cl1 = *losses.cl2 = *losses.regulariser = T(0);
  if (params.batch == 1) {
    *losses.cl2 = *losses.regulariser = one_row_losses(params);
    *losses.cl1 = one_row_cl1(params);
    return;
  }
  const SimilarityProblem<T> problem = main_problem(params);
  const SimilarityLosses found = similarity_forward(problem, values, indices);
  *losses.cl1 = static_cast<T>(found.contrast[kCl1]);
  *losses.cl2 = static_cast<T>(found.contrast[kCl2]);
  *losses.regulariser = static_cast<T>(found.regulariser);
  if (separate_cl1(params)) {
    T* rest = values == nullptr ? nullptr : values + similarity_state_size(problem).values;
    *losses.cl1 =
        static_cast<T>(similarity_forward(cl1_problem(params), rest, nullptr).contrast[kCl1]);
  }
}

template <class T>
void contrast_backward(const ContrastParams<T>& params, const T* values, const int32_t* indices,
                       const ContrastGradients<T>& gradients) {
  if (params.batch == 1) {
    const T zero = one_row_losses(params) + one_row_cl1(params);
    for (T* view : gradients.views) {
      if (view != nullptr) std::fill(view, view + params.hidden, zero);
    }
    return;
  }
  const SimilarityProblem<T> problem = main_problem(params);
  SimilarityGradients<T> parts;
  parts.contrast[kCl1] = *gradients.cl1;
  parts.contrast[kCl2] = *gradients.cl2;
  parts.regulariser = *gradients.regulariser;
  std::copy(gradients.views, gradients.views + 4, parts.x);
  similarity_backward(problem, values, indices, parts);
  if (!separate_cl1(params) || (gradients.views[kH1] == nullptr && gradients.views[kH2] == nullptr))
    return;
  SimilarityGradients<T> own;
  own.contrast[kCl1] = *gradients.cl1;
  own.x[0] = gradients.views[kH1];
  own.x[1] = gradients.views[kH2];
  own.add = true;
  similarity_backward(cl1_problem(params), values + similarity_state_size(problem).values, nullptr,
                      own);
}

template SimilarityStateSize contrast_state_size(const ContrastParams<float>&);
template SimilarityStateSize contrast_state_size(const ContrastParams<double>&);
template void contrast_forward(const ContrastParams<float>&, const ContrastLosses<float>&, float*,
                               int32_t*);
template void contrast_forward(const ContrastParams<double>&, const ContrastLosses<double>&,
                               double*, int32_t*);
template void contrast_backward(const ContrastParams<float>&, const float*, const int32_t*,
                                const ContrastGradients<float>&);
template void contrast_backward(const ContrastParams<double>&, const double*, const int32_t*,
                                const ContrastGradients<double>&);

}  // namespace mclrec
