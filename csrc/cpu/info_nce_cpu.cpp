// info_nce as a problem of the similarity engine (see similarity_cpu.cpp for the kernels and their
// cost): two views, one pair, no regulariser.
#include "info_nce_cpu.h"

#include <algorithm>

namespace mclrec {
namespace {

template <class T>
SimilarityProblem<T> problem_of(const InfoNceParams<T>& params) {
  SimilarityProblem<T> problem;
  problem.views = 2;
  std::copy(params.views, params.views + 2, problem.x);
  problem.batch = params.batch;
  problem.hidden = params.hidden;
  problem.temperature = params.temperature;
  problem.cosine = params.cosine;
  problem.pair[problem.pairs++] = {0, 1, 0, false};
  return problem;
}

}  // namespace

template <class T>
int64_t info_nce_state_size(const InfoNceParams<T>& params) {
  return params.batch > 1 ? similarity_state_size(problem_of(params)).values : 0;
}

template <class T>
void info_nce_forward(const InfoNceParams<T>& params, T* loss, T* saved) {
  *loss = params.batch > 1
              ? static_cast<T>(similarity_forward(problem_of(params), saved, nullptr).contrast[0])
              : one_row_loss(params.views[0], params.views[1], params.hidden, params.cosine);
}

template <class T>
void info_nce_backward(const InfoNceParams<T>& params, const T* saved,
                       const InfoNceGradients<T>& gradients) {
  if (params.batch == 1) {
    const T zero = one_row_loss(params.views[0], params.views[1], params.hidden, params.cosine);
    for (T* view : gradients.views) {
      if (view != nullptr) std::fill_n(view, params.hidden, zero);
    }
    return;
  }
  SimilarityGradients<T> parts;
  parts.contrast[0] = *gradients.loss;
  std::copy(gradients.views, gradients.views + 2, parts.x);
  similarity_backward(problem_of(params), saved, nullptr, parts);
}

template int64_t info_nce_state_size(const InfoNceParams<float>&);
template int64_t info_nce_state_size(const InfoNceParams<double>&);
template void info_nce_forward(const InfoNceParams<float>&, float*, float*);
template void info_nce_forward(const InfoNceParams<double>&, double*, double*);
template void info_nce_backward(const InfoNceParams<float>&, const float*,
                                const InfoNceGradients<float>&);
template void info_nce_backward(const InfoNceParams<double>&, const double*,
                                const InfoNceGradients<double>&);

}  // namespace mclrec
