// CPU registration of contrast and contrast_backward: checks, allocation, the call.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <array>
#include <tuple>

#include "../cpu/contrast_cpu.h"
#include "checks.h"
#include "pooled.h"

namespace mclrec {
namespace {

using Views = std::array<Tensor, 4>;

// The views, contiguous, of one floating dtype and one shape [B, D].
Views check_views(const char* op, const Tensor& h1, const Tensor& h2, const Tensor& z1,
                  const Tensor& z2) {
  check_floating(op, "h1", h1);
  check_tensor(op, "h1", h1, h1.scalar_type(), {-1, -1});
  check(h1.numel() > 0, op, ": h1 must not be empty, got ", shape_text(h1));
  check_tensor(op, "h2", h2, h1.scalar_type(), {h1.size(0), h1.size(1)});
  check_tensor(op, "z1", z1, h1.scalar_type(), {h1.size(0), h1.size(1)});
  check_tensor(op, "z2", z2, h1.scalar_type(), {h1.size(0), h1.size(1)});
  return {torch::stable::contiguous(h1), torch::stable::contiguous(h2),
          torch::stable::contiguous(z1), torch::stable::contiguous(z2)};
}

template <class T>
ContrastParams<T> make_params(const Views& views, double temperature, bool cosine, bool cl1) {
  ContrastParams<T> params;
  for (int view = 0; view < 4; ++view) params.views[view] = read_pointer<T>(views[view]);
  params.batch = views[0].size(0);
  params.width = views[0].size(1);
  params.temperature = temperature;
  params.cosine = cosine;
  params.cl1 = cl1;
  return params;
}

using Outputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class T>
Outputs forward(const Views& views, double temperature, bool cosine, bool cl1, bool save) {
  const ContrastParams<T> params = make_params<T>(views, temperature, cosine, cl1);
  SimilarityStateSize size{0, 0};
  if (save) size = contrast_state_size(params);
  const Tensor values = pooled_empty<T>({size.values}, views[0]);
  const Tensor indices = torch::stable::new_empty(views[0], {size.indices}, ScalarType::Int);
  const ContrastLosses losses = contrast_forward(params, save ? write_pointer<T>(values) : nullptr,
                                                 save ? write_pointer<int32_t>(indices) : nullptr);
  const auto scalar = [&](double value) {
    const Tensor result = torch::stable::new_empty(views[0], {});
    *write_pointer<T>(result) = static_cast<T>(value);
    return result;
  };
  return {scalar(losses.cl1), scalar(losses.cl2), scalar(losses.regulariser), values, indices};
}

// h1, h2, z1, z2 [B, D] -> cl1, cl2, regulariser [], and the state for the gradient ([0] unless
// `save`): values, indices int32.
Outputs contrast_op(const Tensor& h1, const Tensor& h2, const Tensor& z1, const Tensor& z2,
                    double temperature, bool cosine, bool cl1, bool save) {
  const Views views = check_views("contrast", h1, h2, z1, z2);
  check(temperature > 0, "contrast: temperature must be positive, got ", temperature);
  if (h1.scalar_type() == ScalarType::Float) {
    return forward<float>(views, temperature, cosine, cl1, save);
  }
  return forward<double>(views, temperature, cosine, cl1, save);
}

template <class T>
void backward(const Views& views, const std::array<Tensor, 3>& upstream, const Tensor& values,
              const Tensor& indices, double temperature, bool cosine, bool cl1,
              const std::array<Tensor, 4>& grads) {
  const ContrastParams<T> params = make_params<T>(views, temperature, cosine, cl1);
  const SimilarityStateSize size = contrast_state_size(params);
  check(values.numel() == size.values && indices.numel() == size.indices,
        "contrast_backward: the saved state does not belong to these views");
  ContrastGradients<T> gradients;
  gradients.cl1 = *read_pointer<T>(upstream[0]);
  gradients.cl2 = *read_pointer<T>(upstream[1]);
  gradients.regulariser = *read_pointer<T>(upstream[2]);
  for (int view = 0; view < 4; ++view) {
    gradients.views[view] = grads[view].numel() > 0 ? write_pointer<T>(grads[view]) : nullptr;
  }
  contrast_backward(params, read_pointer<T>(values), read_pointer<int32_t>(indices), gradients);
}

// Gradients of the views, [0] where not wanted.
std::tuple<Tensor, Tensor, Tensor, Tensor> contrast_backward_op(
    const Tensor& grad_cl1, const Tensor& grad_cl2, const Tensor& grad_regulariser,
    const Tensor& h1, const Tensor& h2, const Tensor& z1, const Tensor& z2, const Tensor& values,
    const Tensor& indices, double temperature, bool cosine, bool cl1, bool grad_h1, bool grad_h2,
    bool grad_z1, bool grad_z2) {
  const char* op = "contrast_backward";
  const Views views = check_views(op, h1, h2, z1, z2);
  check_tensor(op, "grad_cl1", grad_cl1, h1.scalar_type(), {});
  check_tensor(op, "grad_cl2", grad_cl2, h1.scalar_type(), {});
  check_tensor(op, "grad_regulariser", grad_regulariser, h1.scalar_type(), {});
  check_tensor(op, "values", values, h1.scalar_type(), {-1});
  check_tensor(op, "indices", indices, ScalarType::Int, {-1});
  const bool wanted[4] = {grad_h1, grad_h2, grad_z1, grad_z2};
  std::array<Tensor, 4> grads;
  for (int view = 0; view < 4; ++view) {
    grads[view] = wanted[view] ? torch::stable::new_empty(views[view], {h1.size(0), h1.size(1)})
                               : torch::stable::new_empty(views[view], {0});
  }
  const std::array<Tensor, 3> upstream{grad_cl1, grad_cl2, grad_regulariser};
  if (h1.scalar_type() == ScalarType::Float) {
    backward<float>(views, upstream, values, indices, temperature, cosine, cl1, grads);
  } else {
    backward<double>(views, upstream, values, indices, temperature, cosine, cl1, grads);
  }
  return {grads[0], grads[1], grads[2], grads[3]};
}

}  // namespace
}  // namespace mclrec

STABLE_TORCH_LIBRARY_IMPL(mclrec_fast, CPU, m) {
  m.impl("contrast", TORCH_BOX(&mclrec::contrast_op));
  m.impl("contrast_backward", TORCH_BOX(&mclrec::contrast_backward_op));
}
