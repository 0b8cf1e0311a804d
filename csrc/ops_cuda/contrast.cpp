// CUDA registration of contrast and contrast_backward: checks, allocation, the launches.
#include <array>
#include <limits>
#include <tuple>

#include "../cuda/contrast_cuda.h"
#include "common.h"

namespace mclrec {
namespace {

using Views = std::array<Tensor, 4>;

// The views, contiguous and aligned, of one floating dtype and one shape [B, D].
Views check_views(const char* op, const Tensor& h1, const Tensor& h2, const Tensor& z1,
                  const Tensor& z2, double temperature) {
  check_floating(op, "h1", h1);
  check_device_tensor(op, "h1", h1, h1.scalar_type(), {-1, -1}, h1);
  check(h1.numel() > 0, op, ": h1 must not be empty, got ", shape_text(h1));
  check(h1.size(0) < std::numeric_limits<int32_t>::max() / 2, op, ": too many rows");
  check_device_tensor(op, "h2", h2, h1.scalar_type(), {h1.size(0), h1.size(1)}, h1);
  check_device_tensor(op, "z1", z1, h1.scalar_type(), {h1.size(0), h1.size(1)}, h1);
  check_device_tensor(op, "z2", z2, h1.scalar_type(), {h1.size(0), h1.size(1)}, h1);
  check(temperature > 0, op, ": temperature must be positive, got ", temperature);
  return {aligned(h1), aligned(h2), aligned(z1), aligned(z2)};
}

template <class T>
cuda::Contrast<T> make_job(const Views& views, double temperature, bool cosine, bool cl1) {
  return {{read_pointer<T>(views[0]), read_pointer<T>(views[1]), read_pointer<T>(views[2]),
           read_pointer<T>(views[3])},
          views[0].size(0),
          static_cast<int>(views[0].size(1)),
          temperature,
          cosine,
          cl1,
          precision()};
}

using Outputs = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

template <class T>
Outputs forward(const Views& views, double temperature, bool cosine, bool cl1, bool save) {
  const cuda::Contrast<T> job = make_job<T>(views, temperature, cosine, cl1);
  const cuda::StateSize size = cuda::contrast_state(job);
  const Tensor& like = views[0];
  const DeviceScope scope(like);
  const std::array<Tensor, 3> losses{allocate(like, {}), allocate(like, {}), allocate(like, {})};
  const Tensor values = allocate(like, {size.values});
  const Tensor indices = allocate(like, {size.indices}, ScalarType::Int);
  cuda::contrast(
      job, write_pointer<T>(values), write_pointer<int32_t>(indices),
      {write_pointer<T>(losses[0]), write_pointer<T>(losses[1]), write_pointer<T>(losses[2])},
      scope.stream());
  check_launches("contrast");
  if (save) return {losses[0], losses[1], losses[2], values, indices};
  return {losses[0], losses[1], losses[2], allocate(like, {0}),
          allocate(like, {0}, ScalarType::Int)};
}

// h1, h2, z1, z2 [B, D] -> cl1, cl2, regulariser [], and the state for the gradient ([0] unless
// `save`): values, indices int32.
Outputs contrast(const Tensor& h1, const Tensor& h2, const Tensor& z1, const Tensor& z2,
                 double temperature, bool cosine, bool cl1, bool save) {
  const Views views = check_views("contrast", h1, h2, z1, z2, temperature);
  if (h1.scalar_type() == ScalarType::Float) {
    return forward<float>(views, temperature, cosine, cl1, save);
  }
  return forward<double>(views, temperature, cosine, cl1, save);
}

template <class T>
void backward(const Views& views, const std::array<Tensor, 3>& upstream, const Tensor& values,
              const Tensor& indices, double temperature, bool cosine, bool cl1,
              const std::array<Tensor, 4>& grads) {
  const char* op = "contrast_backward";
  const cuda::Contrast<T> job = make_job<T>(views, temperature, cosine, cl1);
  const cuda::StateSize size = cuda::contrast_state(job);
  const Tensor& like = views[0];
  check_device_tensor(op, "values", values, like.scalar_type(), {size.values}, like);
  check_device_tensor(op, "indices", indices, ScalarType::Int, {size.indices}, like);
  const DeviceScope scope(like);
  const bool units = cl1 && cosine;
  const Tensor scratch = allocate(like, {units ? 2 * like.numel() : 0});
  const auto pointer = [](const Tensor& grad) {
    return grad.numel() > 0 ? write_pointer<T>(grad) : nullptr;
  };
  cuda::contrast_backward(
      job, write_pointer<T>(values), write_pointer<int32_t>(indices),
      {read_pointer<T>(upstream[0]), read_pointer<T>(upstream[1]), read_pointer<T>(upstream[2])},
      units ? write_pointer<T>(scratch) : nullptr,
      {pointer(grads[0]), pointer(grads[1]), pointer(grads[2]), pointer(grads[3])}, scope.stream());
  check_launches(op);
}

// Gradients of the views, [0] where not wanted.
std::tuple<Tensor, Tensor, Tensor, Tensor> contrast_backward(
    const Tensor& grad_cl1, const Tensor& grad_cl2, const Tensor& grad_regulariser,
    const Tensor& h1, const Tensor& h2, const Tensor& z1, const Tensor& z2, const Tensor& values,
    const Tensor& indices, double temperature, bool cosine, bool cl1, bool grad_h1, bool grad_h2,
    bool grad_z1, bool grad_z2) {
  const char* op = "contrast_backward";
  const Views views = check_views(op, h1, h2, z1, z2, temperature);
  check_device_tensor(op, "grad_cl1", grad_cl1, h1.scalar_type(), {}, h1);
  check_device_tensor(op, "grad_cl2", grad_cl2, h1.scalar_type(), {}, h1);
  check_device_tensor(op, "grad_regulariser", grad_regulariser, h1.scalar_type(), {}, h1);
  const DeviceScope scope(views[0]);
  const bool wanted[4] = {grad_h1, grad_h2, grad_z1, grad_z2};
  std::array<Tensor, 4> grads;
  for (size_t view = 0; view < 4; ++view) {
    grads[view] =
        wanted[view] ? allocate(views[view], {h1.size(0), h1.size(1)}) : allocate(views[view], {0});
  }
  const std::array<Tensor, 3> upstream{grad_cl1, grad_cl2, grad_regulariser};
  if (h1.scalar_type() == ScalarType::Float) {
    backward<float>(views, upstream, values, indices, temperature, cosine, cl1, grads);
  } else {
    backward<double>(views, upstream, values, indices, temperature, cosine, cl1, grads);
  }
  return {grads[0], grads[1], grads[2], grads[3]};
}

MCLREC_CUDA_LIBRARY_IMPL(m) {
  m.impl("contrast", TORCH_BOX(&contrast));
  m.impl("contrast_backward", TORCH_BOX(&contrast_backward));
}

}  // namespace
}  // namespace mclrec
