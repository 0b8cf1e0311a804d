// CPU registration of info_nce and info_nce_backward: checks, allocation, the call of the
// similarity engine (one pair of views).
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <tuple>

#include "../cpu/similarity_cpu.h"
#include "checks.h"
#include "pooled.h"

namespace mclrec {
namespace {

// The views, contiguous, of one floating dtype and one shape [B, D].
std::tuple<Tensor, Tensor> check_views(const char* op, const Tensor& a, const Tensor& b,
                                       double temperature) {
  check_floating(op, "a", a);
  check_tensor(op, "a", a, a.scalar_type(), {-1, -1});
  check(a.numel() > 0, op, ": a must not be empty, got ", shape_text(a));
  check_tensor(op, "b", b, a.scalar_type(), {a.size(0), a.size(1)});
  check(temperature > 0, op, ": temperature must be positive, got ", temperature);
  return {torch::stable::contiguous(a), torch::stable::contiguous(b)};
}

template <class T>
SimilarityProblem<T> make_problem(const Tensor& a, const Tensor& b, double temperature,
                                  bool cosine) {
  SimilarityProblem<T> problem;
  problem.views = 2;
  problem.x[0] = read_pointer<T>(a);
  problem.x[1] = read_pointer<T>(b);
  problem.batch = a.size(0);
  problem.width = a.size(1);
  problem.temperature = temperature;
  problem.cosine = cosine;
  problem.pairs = 1;
  problem.pair[0] = {0, 1, 0, false};
  return problem;
}

// Elements of the saved state; none for a single row, whose loss is 0 by definition.
template <class T>
int64_t state_size(const SimilarityProblem<T>& problem) {
  return problem.batch > 1 ? similarity_state_size(problem).values : 0;
}

template <class T>
std::tuple<Tensor, Tensor> forward(const Tensor& a, const Tensor& b, double temperature,
                                   bool cosine, bool save) {
  const SimilarityProblem<T> problem = make_problem<T>(a, b, temperature, cosine);
  const Tensor loss = torch::stable::new_empty(a, {});
  const Tensor saved = pooled_empty<T>({save ? state_size(problem) : 0}, a);
  T* state = save ? write_pointer<T>(saved) : nullptr;
  *write_pointer<T>(loss) =
      problem.batch > 1 ? static_cast<T>(similarity_forward(problem, state, nullptr).contrast[0])
                        : T(0);
  return {loss, saved};
}

// a, b [B, D] -> loss [], and the state for the gradient ([0] unless `save`).
std::tuple<Tensor, Tensor> info_nce_op(const Tensor& a, const Tensor& b, double temperature,
                                       bool cosine, bool save) {
  const auto [rows_a, rows_b] = check_views("info_nce", a, b, temperature);
  if (a.scalar_type() == ScalarType::Float) {
    return forward<float>(rows_a, rows_b, temperature, cosine, save);
  }
  return forward<double>(rows_a, rows_b, temperature, cosine, save);
}

template <class T>
void backward(const Tensor& grad_loss, const Tensor& a, const Tensor& b, const Tensor& saved,
              double temperature, bool cosine, const Tensor& grad_a, const Tensor& grad_b) {
  const SimilarityProblem<T> problem = make_problem<T>(a, b, temperature, cosine);
  check(saved.numel() == state_size(problem),
        "info_nce_backward: the saved state does not belong to these views");
  SimilarityGradients<T> gradients;
  gradients.contrast[0] = *read_pointer<T>(grad_loss);
  const Tensor* grads[2] = {&grad_a, &grad_b};
  for (int view = 0; view < 2; ++view) {
    if (grads[view]->numel() == 0) continue;
    gradients.x[view] = write_pointer<T>(*grads[view]);
    if (problem.batch == 1) std::fill_n(gradients.x[view], problem.width, T(0));
  }
  if (problem.batch > 1) {
    similarity_backward(problem, read_pointer<T>(saved), nullptr, gradients);
  }
}

// Gradients of a and b, [0] where not wanted.
std::tuple<Tensor, Tensor> info_nce_backward_op(const Tensor& grad_loss, const Tensor& a,
                                                const Tensor& b, const Tensor& saved,
                                                double temperature, bool cosine, bool grad_a,
                                                bool grad_b) {
  const char* op = "info_nce_backward";
  const auto [rows_a, rows_b] = check_views(op, a, b, temperature);
  check_tensor(op, "grad_loss", grad_loss, a.scalar_type(), {});
  check_tensor(op, "saved", saved, a.scalar_type(), {-1});
  const auto grad_of = [&](bool wanted) {
    return wanted ? torch::stable::new_empty(rows_a, {a.size(0), a.size(1)})
                  : torch::stable::new_empty(rows_a, {0});
  };
  const Tensor out_a = grad_of(grad_a), out_b = grad_of(grad_b);
  if (a.scalar_type() == ScalarType::Float) {
    backward<float>(grad_loss, rows_a, rows_b, saved, temperature, cosine, out_a, out_b);
  } else {
    backward<double>(grad_loss, rows_a, rows_b, saved, temperature, cosine, out_a, out_b);
  }
  return {out_a, out_b};
}

}  // namespace
}  // namespace mclrec

STABLE_TORCH_LIBRARY_IMPL(mclrec_fast, CPU, m) {
  m.impl("info_nce", TORCH_BOX(&mclrec::info_nce_op));
  m.impl("info_nce_backward", TORCH_BOX(&mclrec::info_nce_backward_op));
}
