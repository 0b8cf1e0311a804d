// contrast for torch, on the CPU and on CUDA: checks, allocation, the calls.
#include <array>
#include <tuple>

#include "checks.h"
#include "device.h"
#ifdef MCLREC_CUDA
#include "../cuda/contrast_cuda.h"
#else
#include "../cpu/contrast_cpu.h"
#include "../ops_cpu/chain.h"
#endif

namespace mclrec {
namespace {

#ifdef MCLREC_CUDA
using cuda::contrast_backward;
using cuda::contrast_forward;
using cuda::contrast_state_size;
#else
template <class T>
void contrast_forward(const ContrastParams<T>& params, const ContrastLosses<T>& losses, T* values,
                      int32_t* indices, const Call&) {
  mclrec::contrast_forward(params, losses, values, indices);
}
template <class T>
void contrast_backward(const ContrastParams<T>& params, const T* values, const int32_t* indices,
                       const ContrastGradients<T>& gradients, const Call&) {
  mclrec::contrast_backward(params, values, indices, gradients);
}
#endif

// The views, dense, of one floating dtype and one shape [B, D], and the options.
struct Inputs {
  std::array<Tensor, 4> views;  // h1, h2, z1, z2
  double temperature;
  bool cosine, cl1;

  void check_views(const Checker& check) {
    const char* const names[] = {"h1", "h2", "z1", "z2"};
    const Tensor& h1 = views[0];
    check.floating("h1", h1, {-1, -1});
    check.require(h1.numel() > 0, "h1 must not be empty, got ", ShapeText(h1));
    check.rows({h1.size(0)});
    for (size_t view = 1; view < 4; ++view) {
      check.tensor(names[view], views[view], h1.scalar_type(), {h1.size(0), h1.size(1)});
    }
    check.require(temperature > 0, "temperature must be positive, got ", temperature);
    for (Tensor& view : views) view = dense(view);
  }

  template <class T>
  ContrastParams<T> params() const {
    return {.views = {read_pointer<T>(views[0]), read_pointer<T>(views[1]),
                      read_pointer<T>(views[2]), read_pointer<T>(views[3])},
            .batch = views[0].size(0),
            .hidden = views[0].size(1),
            .temperature = temperature,
            .cosine = cosine,
            .cl1 = cl1};
  }
};

}  // namespace

using Outputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// h1, h2, z1, z2 [B, D] -> cl1, cl2, regulariser [], and the state for the gradient ([0] unless
// `save`): values, indices int32.
Outputs contrast_op(const Tensor& h1, const Tensor& h2, const Tensor& z1, const Tensor& z2,
                    double temperature, bool cosine, bool cl1, bool save) {
  const char* op = "contrast";
  Inputs inputs{{h1, h2, z1, z2}, temperature, cosine, cl1};
  inputs.check_views(Checker(op, h1));
  Call call(op, h1);
  return by_dtype(h1, [&]<class T>() -> Outputs {
    const ContrastParams<T> params = inputs.params<T>();
    const SimilarityStateSize size = save ? contrast_state_size(params) : SimilarityStateSize{};
    const Tensor values = kept<T>(h1, {size.values});
    const Tensor indices = empty(h1, {size.indices}, ScalarType::Int);
    const Tensor losses[3] = {empty(h1, {}), empty(h1, {}), empty(h1, {})};
    contrast_forward(params,
                     ContrastLosses<T>{.cl1 = write_pointer<T>(losses[0]),
                                       .cl2 = write_pointer<T>(losses[1]),
                                       .regulariser = write_pointer<T>(losses[2])},
                     wanted_pointer<T>(values), wanted_pointer<int32_t>(indices), call);
    call.done();
    return {losses[0], losses[1], losses[2], values, indices};
  });
}

// Gradients of the views, [0] where not wanted.
std::tuple<Tensor, Tensor, Tensor, Tensor> contrast_backward_op(
    const Tensor& grad_cl1, const Tensor& grad_cl2, const Tensor& grad_regulariser,
    const Tensor& h1, const Tensor& h2, const Tensor& z1, const Tensor& z2, const Tensor& values_in,
    const Tensor& indices_in, double temperature, bool cosine, bool cl1, bool grad_h1, bool grad_h2,
    bool grad_z1, bool grad_z2) {
  const char* op = "contrast_backward";
  const Checker check(op, h1);
  Inputs inputs{{h1, h2, z1, z2}, temperature, cosine, cl1};
  inputs.check_views(check);
  const ScalarType dtype = h1.scalar_type();
  check.tensor("grad_cl1", grad_cl1, dtype, {});
  check.tensor("grad_cl2", grad_cl2, dtype, {});
  check.tensor("grad_regulariser", grad_regulariser, dtype, {});
  Call call(op, h1);
  const bool wanted[4] = {grad_h1, grad_h2, grad_z1, grad_z2};
  std::array<Tensor, 4> grads;
  for (size_t view = 0; view < 4; ++view) {
    grads[view] = gradient_like(inputs.views[view], wanted[view]);
  }
  by_dtype(h1, [&]<class T>() {
    const ContrastParams<T> params = inputs.params<T>();
    const SimilarityStateSize size = contrast_state_size(params);
    check.tensor("values", values_in, dtype, {size.values});
    check.tensor("indices", indices_in, ScalarType::Int, {size.indices});
    const Tensor values = dense(values_in), indices = dense(indices_in);
    contrast_backward(
        params, read_pointer<T>(values), read_pointer<int32_t>(indices),
        ContrastGradients<T>{.cl1 = read_pointer<T>(grad_cl1),
                             .cl2 = read_pointer<T>(grad_cl2),
                             .regulariser = read_pointer<T>(grad_regulariser),
                             .views = {wanted_pointer<T>(grads[0]), wanted_pointer<T>(grads[1]),
                                       wanted_pointer<T>(grads[2]), wanted_pointer<T>(grads[3])}},
        call);
  });
  call.done();
  return {grads[0], grads[1], grads[2], grads[3]};
}

namespace {

MCLREC_LIBRARY_IMPL(m) {
  m.impl("contrast", TORCH_BOX(&contrast_op));
  m.impl("contrast_backward", TORCH_BOX(&contrast_backward_op));
}

}  // namespace
}  // namespace mclrec
