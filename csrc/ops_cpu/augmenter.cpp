// augmenter for torch: checks, allocation, the calls. On the CPU only: on a GPU it is plain torch.
#include <string>
#include <tuple>
#include <vector>

#include "../cpu/augmenter_cpu.h"
#include "../ops/checks.h"
#include "../ops/device.h"
#include "chain.h"

namespace mclrec {
namespace {

// Weight [out, in] and bias [out] of each layer.
using Weights = std::vector<Tensor>;

struct Inputs {
  Tensor h;  // [B, D], dense, as are the weights
  Weights weights;

  Inputs(const Checker& check, const Tensor& h_in, const Weights& weights_in) {
    const char* const names[] = {"weight_1", "bias_1", "weight_2", "bias_2", "weight_3", "bias_3"};
    check.floating("h", h_in, {-1, -1});
    check.require(h_in.numel() > 0, "h must not be empty, got ", ShapeText(h_in));
    h = dense(h_in);
    int64_t size = h.size(1);
    for (size_t i = 0; i < weights_in.size(); ++i) {
      const Tensor& weight = weights_in[i];
      if (i % 2 == 0) {
        check.tensor(names[i], weight, h.scalar_type(), {-1, size});
        size = weight.size(0);
        check.require(size > 0, names[i], " must have at least one row");
      } else {
        check.tensor(names[i], weight, h.scalar_type(), {size});
      }
      weights.push_back(dense(weight));
    }
  }

  int64_t outputs() const { return weights[4].size(0); }

  template <class T>
  Augmenter<T> augmenter() const {
    Augmenter<T> result;
    result.rows = h.size(0);
    result.sizes[0] = h.size(1);
    result.h = read_pointer<T>(h);
    for (int l = 0; l < kAugmenterLayers; ++l) {
      result.sizes[l + 1] = weights[2 * l].size(0);
      result.weight[l] = read_pointer<T>(weights[2 * l]);
      result.bias[l] = read_pointer<T>(weights[2 * l + 1]);
    }
    return result;
  }
};

}  // namespace

// h [B, D], weights of three layers -> z [B, the last layer's size], and what the gradient needs
// ([0] unless `save`).
std::tuple<Tensor, Tensor> augmenter_op(const Tensor& h, const Tensor& weight_1,
                                        const Tensor& bias_1, const Tensor& weight_2,
                                        const Tensor& bias_2, const Tensor& weight_3,
                                        const Tensor& bias_3, bool save) {
  const Inputs inputs(Checker("augmenter", h), h,
                      {weight_1, bias_1, weight_2, bias_2, weight_3, bias_3});
  return by_dtype(h, [&]<class T>() -> std::tuple<Tensor, Tensor> {
    const Augmenter<T> augmenter = inputs.augmenter<T>();
    const Tensor z = empty(inputs.h, {augmenter.rows, inputs.outputs()});
    const Tensor saved =
        kept<T>(inputs.h, {save ? augmenter_saved_size(augmenter.rows, augmenter.sizes) : 0});
    augmenter_forward(augmenter, write_pointer<T>(z), wanted_pointer<T>(saved));
    return {z, saved};
  });
}

// Gradients of h and of the six weights, [0] where not wanted.
std::vector<Tensor> augmenter_backward_op(const Tensor& grad_z_in, const Tensor& h,
                                          const Tensor& weight_1, const Tensor& bias_1,
                                          const Tensor& weight_2, const Tensor& bias_2,
                                          const Tensor& weight_3, const Tensor& bias_3,
                                          const Tensor& z_in, const Tensor& saved_in, bool grad_h,
                                          bool grad_weights) {
  const Checker check("augmenter_backward", h);
  const Inputs inputs(check, h, {weight_1, bias_1, weight_2, bias_2, weight_3, bias_3});
  const ScalarType dtype = h.scalar_type();
  check.tensor("grad_z", grad_z_in, dtype, {h.size(0), inputs.outputs()});
  check.tensor("z", z_in, dtype, {h.size(0), inputs.outputs()});
  const Tensor grad_z = dense(grad_z_in), z = dense(z_in);
  return by_dtype(h, [&]<class T>() {
    const Augmenter<T> augmenter = inputs.augmenter<T>();
    check.tensor("saved", saved_in, dtype, {augmenter_saved_size(augmenter.rows, augmenter.sizes)});
    const Tensor saved = dense(saved_in);
    std::vector<Tensor> all{gradient_like(inputs.h, grad_h)};
    for (const Tensor& weight : inputs.weights) {
      all.push_back(gradient_like(weight, grad_weights));
    }
    AugmenterGradients<T> gradients;
    gradients.h = wanted_pointer<T>(all[0]);
    for (int l = 0; l < kAugmenterLayers; ++l) {
      gradients.weight[l] = wanted_pointer<T>(all[2 * l + 1]);
      gradients.bias[l] = wanted_pointer<T>(all[2 * l + 2]);
    }
    if (grad_h || grad_weights) {
      augmenter_backward(augmenter, read_pointer<T>(z), read_pointer<T>(saved),
                         read_pointer<T>(grad_z), gradients);
    }
    return all;
  });
}

namespace {

MCLREC_LIBRARY_IMPL(m) {
  m.impl("augmenter", TORCH_BOX(&augmenter_op));
  m.impl("augmenter_backward", TORCH_BOX(&augmenter_backward_op));
}

}  // namespace
}  // namespace mclrec
