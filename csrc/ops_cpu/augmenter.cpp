// CPU registration of augmenter and augmenter_backward: checks, allocation, the call.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <string>
#include <tuple>
#include <vector>

#include "../cpu/augmenter_cpu.h"
#include "checks.h"
#include "pooled.h"

namespace mclrec {
namespace {

struct Inputs {
  Tensor h;                     // [B, D], contiguous
  std::vector<Tensor> weights;  // weight [out, in] and bias [out] of each layer, contiguous
};

Inputs check_inputs(const char* op, const Tensor& h, const std::vector<Tensor>& weights) {
  check_floating(op, "h", h);
  check_tensor(op, "h", h, h.scalar_type(), {-1, -1});
  check(h.numel() > 0, op, ": h must not be empty, got ", shape_text(h));
  Inputs inputs{torch::stable::contiguous(h), {}};
  int64_t size = h.size(1);
  for (size_t i = 0; i < weights.size(); ++i) {
    const std::string name = (i % 2 == 0 ? "weight_" : "bias_") + std::to_string(i / 2 + 1);
    if (i % 2 == 0) {
      check_tensor(op, name.c_str(), weights[i], h.scalar_type(), {-1, size});
      size = weights[i].size(0);
      check(size > 0, op, ": ", name, " must have at least one row");
    } else {
      check_tensor(op, name.c_str(), weights[i], h.scalar_type(), {size});
    }
    inputs.weights.push_back(torch::stable::contiguous(weights[i]));
  }
  return inputs;
}

template <class T>
Augmenter<T> make_augmenter(const Inputs& inputs) {
  Augmenter<T> augmenter;
  augmenter.rows = inputs.h.size(0);
  augmenter.sizes[0] = inputs.h.size(1);
  augmenter.h = read_pointer<T>(inputs.h);
  for (int l = 0; l < kAugmenterLayers; ++l) {
    augmenter.sizes[l + 1] = inputs.weights[2 * l].size(0);
    augmenter.weight[l] = read_pointer<T>(inputs.weights[2 * l]);
    augmenter.bias[l] = read_pointer<T>(inputs.weights[2 * l + 1]);
  }
  return augmenter;
}

template <class T>
std::tuple<Tensor, Tensor> forward(const Inputs& inputs, bool save) {
  const Augmenter<T> augmenter = make_augmenter<T>(inputs);
  const Tensor z = torch::stable::new_empty(inputs.h, {augmenter.rows, augmenter.sizes[3]});
  const Tensor saved =
      pooled_empty<T>({save ? augmenter_saved_size(augmenter.rows, augmenter.sizes) : 0}, inputs.h);
  augmenter_forward(augmenter, write_pointer<T>(z), save ? write_pointer<T>(saved) : nullptr);
  return {z, saved};
}

// h [B, D], weights of three layers -> z [B, the last layer's size], and what the gradient needs
// ([0] unless `save`).
std::tuple<Tensor, Tensor> augmenter_op(const Tensor& h, const Tensor& weight_1,
                                        const Tensor& bias_1, const Tensor& weight_2,
                                        const Tensor& bias_2, const Tensor& weight_3,
                                        const Tensor& bias_3, bool save) {
  const Inputs inputs =
      check_inputs("augmenter", h, {weight_1, bias_1, weight_2, bias_2, weight_3, bias_3});
  return h.scalar_type() == ScalarType::Double ? forward<double>(inputs, save)
                                               : forward<float>(inputs, save);
}

template <class T>
std::vector<Tensor> backward(const Inputs& inputs, const Tensor& grad_z, const Tensor& z,
                             const Tensor& saved, bool grad_h, bool grad_weights) {
  const Augmenter<T> augmenter = make_augmenter<T>(inputs);
  AugmenterGradients<T> gradients;
  std::vector<Tensor> all;
  const auto like = [&](const Tensor& of, bool wanted) {
    std::vector<int64_t> shape;
    for (int64_t d = 0; wanted && d < of.dim(); ++d) shape.push_back(of.size(d));
    if (!wanted) shape.push_back(0);
    all.push_back(torch::stable::new_empty(of, shape));
    return wanted ? write_pointer<T>(all.back()) : nullptr;
  };
  gradients.h = like(inputs.h, grad_h);
  for (int l = 0; l < kAugmenterLayers; ++l) {
    gradients.weight[l] = like(inputs.weights[2 * l], grad_weights);
    gradients.bias[l] = like(inputs.weights[2 * l + 1], grad_weights);
  }
  if (grad_h || grad_weights) {
    augmenter_backward(augmenter, read_pointer<T>(z), read_pointer<T>(saved),
                       read_pointer<T>(grad_z), gradients);
  }
  return all;
}

// Gradients of h and of the six weights, [0] where not wanted.
std::vector<Tensor> augmenter_backward_op(const Tensor& grad_z, const Tensor& h,
                                          const Tensor& weight_1, const Tensor& bias_1,
                                          const Tensor& weight_2, const Tensor& bias_2,
                                          const Tensor& weight_3, const Tensor& bias_3,
                                          const Tensor& z, const Tensor& saved, bool grad_h,
                                          bool grad_weights) {
  const char* op = "augmenter_backward";
  const Inputs inputs = check_inputs(op, h, {weight_1, bias_1, weight_2, bias_2, weight_3, bias_3});
  const ScalarType dtype = h.scalar_type();
  const int64_t out = inputs.weights[4].size(0);
  check_tensor(op, "grad_z", grad_z, dtype, {h.size(0), out});
  check_tensor(op, "z", z, dtype, {h.size(0), out});
  const int64_t sizes[] = {h.size(1), inputs.weights[0].size(0), inputs.weights[2].size(0), out};
  check_tensor(op, "saved", saved, dtype, {augmenter_saved_size(h.size(0), sizes)});
  const Tensor grad = torch::stable::contiguous(grad_z), unit = torch::stable::contiguous(z);
  const Tensor kept = torch::stable::contiguous(saved);
  return dtype == ScalarType::Double
             ? backward<double>(inputs, grad, unit, kept, grad_h, grad_weights)
             : backward<float>(inputs, grad, unit, kept, grad_h, grad_weights);
}

}  // namespace
}  // namespace mclrec

STABLE_TORCH_LIBRARY_IMPL(mclrec_fast, CPU, m) {
  m.impl("augmenter", TORCH_BOX(&mclrec::augmenter_op));
  m.impl("augmenter_backward", TORCH_BOX(&mclrec::augmenter_backward_op));
}
