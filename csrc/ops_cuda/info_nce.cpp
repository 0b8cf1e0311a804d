// CUDA registration of info_nce and info_nce_backward: checks, allocation, the launches.
#include <limits>
#include <tuple>

#include "../cuda/contrast_cuda.h"
#include "common.h"

namespace mclrec {
namespace {

// The views, contiguous and aligned, of one floating dtype and one shape [B, D].
std::tuple<Tensor, Tensor> check_views(const char* op, const Tensor& a, const Tensor& b,
                                       double temperature) {
  check_floating(op, "a", a);
  check_device_tensor(op, "a", a, a.scalar_type(), {-1, -1}, a);
  check(a.numel() > 0, op, ": a must not be empty, got ", shape_text(a));
  check(a.size(0) < std::numeric_limits<int32_t>::max() / 2, op, ": too many rows");
  check_device_tensor(op, "b", b, a.scalar_type(), {a.size(0), a.size(1)}, a);
  check(temperature > 0, op, ": temperature must be positive, got ", temperature);
  return {aligned(a), aligned(b)};
}

template <class T>
cuda::InfoNce<T> make_job(const Tensor& a, const Tensor& b, double temperature, bool cosine) {
  return {read_pointer<T>(a), read_pointer<T>(b),
          a.size(0),          static_cast<int>(a.size(1)),
          temperature,        cosine,
          precision()};
}

template <class T>
std::tuple<Tensor, Tensor> forward(const Tensor& a, const Tensor& b, double temperature,
                                   bool cosine, bool save) {
  const cuda::InfoNce<T> job = make_job<T>(a, b, temperature, cosine);
  const DeviceScope scope(a);
  const Tensor loss = allocate(a, {});
  const Tensor saved = allocate(a, {cuda::info_nce_state(job).values});
  cuda::info_nce(job, write_pointer<T>(saved), write_pointer<T>(loss), scope.stream());
  check_launches("info_nce");
  return {loss, save ? saved : allocate(a, {0})};
}

// a, b [B, D] -> loss [], and the state for the gradient ([0] unless `save`).
std::tuple<Tensor, Tensor> info_nce(const Tensor& a, const Tensor& b, double temperature,
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
  const cuda::InfoNce<T> job = make_job<T>(a, b, temperature, cosine);
  check_device_tensor("info_nce_backward", "saved", saved, a.scalar_type(),
                      {cuda::info_nce_state(job).values}, a);
  const DeviceScope scope(a);
  const Tensor scratch = allocate(a, {cosine ? 2 * a.numel() : 0});
  cuda::info_nce_backward(job, write_pointer<T>(saved), read_pointer<T>(grad_loss),
                          cosine ? write_pointer<T>(scratch) : nullptr,
                          {grad_a.numel() > 0 ? write_pointer<T>(grad_a) : nullptr,
                           grad_b.numel() > 0 ? write_pointer<T>(grad_b) : nullptr},
                          scope.stream());
  check_launches("info_nce_backward");
}

// Gradients of a and b, [0] where not wanted.
std::tuple<Tensor, Tensor> info_nce_backward(const Tensor& grad_loss, const Tensor& a,
                                             const Tensor& b, const Tensor& saved,
                                             double temperature, bool cosine, bool grad_a,
                                             bool grad_b) {
  const char* op = "info_nce_backward";
  const auto [rows_a, rows_b] = check_views(op, a, b, temperature);
  check_device_tensor(op, "grad_loss", grad_loss, a.scalar_type(), {}, a);
  const DeviceScope scope(a);
  const Tensor out_a = grad_a ? allocate(rows_a, {a.size(0), a.size(1)}) : allocate(rows_a, {0});
  const Tensor out_b = grad_b ? allocate(rows_a, {a.size(0), a.size(1)}) : allocate(rows_a, {0});
  if (a.scalar_type() == ScalarType::Float) {
    backward<float>(grad_loss, rows_a, rows_b, saved, temperature, cosine, out_a, out_b);
  } else {
    backward<double>(grad_loss, rows_a, rows_b, saved, temperature, cosine, out_a, out_b);
  }
  return {out_a, out_b};
}

MCLREC_CUDA_LIBRARY_IMPL(m) {
  m.impl("info_nce", TORCH_BOX(&info_nce));
  m.impl("info_nce_backward", TORCH_BOX(&info_nce_backward));
}

}  // namespace
}  // namespace mclrec
