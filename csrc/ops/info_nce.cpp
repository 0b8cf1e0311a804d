// info_nce for torch, on the CPU and on CUDA: checks, allocation, the calls.
#include <tuple>

#include "checks.h"
#include "device.h"
#ifdef MCLREC_CUDA
#include "../cuda/contrast_cuda.h"
#else
#include "../cpu/info_nce_cpu.h"
#endif

namespace mclrec {
namespace {

#ifdef MCLREC_CUDA
using cuda::info_nce_backward;
using cuda::info_nce_forward;
using cuda::info_nce_state_size;
#else
template <class T>
void info_nce_forward(const InfoNceParams<T>& params, T* loss, T* saved, const Call&) {
  mclrec::info_nce_forward(params, loss, saved);
}
template <class T>
void info_nce_backward(const InfoNceParams<T>& params, const T* saved,
                       const InfoNceGradients<T>& gradients, const Call&) {
  mclrec::info_nce_backward(params, saved, gradients);
}
#endif

// The views, dense, of one floating dtype and one shape [B, D].
struct Views {
  Tensor a, b;
  double temperature;
  bool cosine;

  Views(const Checker& check, const Tensor& a_in, const Tensor& b_in, double temperature_in,
        bool cosine_in)
      : temperature(temperature_in), cosine(cosine_in) {
    check.floating("a", a_in, {-1, -1});
    check.require(a_in.numel() > 0, "a must not be empty, got ", ShapeText(a_in));
    check.tensor("b", b_in, a_in.scalar_type(), {a_in.size(0), a_in.size(1)});
    check.require(temperature > 0, "temperature must be positive, got ", temperature);
    check.rows({a_in.size(0)});
    a = dense(a_in);
    b = dense(b_in);
  }

  template <class T>
  InfoNceParams<T> params() const {
    return {.views = {read_pointer<T>(a), read_pointer<T>(b)},
            .batch = a.size(0),
            .hidden = a.size(1),
            .temperature = temperature,
            .cosine = cosine};
  }
};

// a, b [B, D] -> loss [], and the state for the gradient ([0] unless `save`).
std::tuple<Tensor, Tensor> info_nce_op(const Tensor& a, const Tensor& b, double temperature,
                                       bool cosine, bool save) {
  const char* op = "info_nce";
  const Views views(Checker(op, a), a, b, temperature, cosine);
  Call call(op, a);
  return by_dtype(a, [&]<class T>() -> std::tuple<Tensor, Tensor> {
    const InfoNceParams<T> params = views.params<T>();
    const Tensor loss = empty(a, {});
    const Tensor saved = kept<T>(a, {save ? info_nce_state_size(params) : 0});
    info_nce_forward(params, write_pointer<T>(loss), wanted_pointer<T>(saved), call);
    call.done();
    return {loss, saved};
  });
}

// Gradients of a and b, [0] where not wanted.
std::tuple<Tensor, Tensor> info_nce_backward_op(const Tensor& grad_loss, const Tensor& a,
                                                const Tensor& b, const Tensor& saved_in,
                                                double temperature, bool cosine, bool grad_a,
                                                bool grad_b) {
  const char* op = "info_nce_backward";
  const Checker check(op, a);
  const Views views(check, a, b, temperature, cosine);
  check.tensor("grad_loss", grad_loss, a.scalar_type(), {});
  Call call(op, a);
  const Tensor out_a = gradient_like(views.a, grad_a), out_b = gradient_like(views.b, grad_b);
  by_dtype(a, [&]<class T>() {
    const InfoNceParams<T> params = views.params<T>();
    check.tensor("saved", saved_in, a.scalar_type(), {info_nce_state_size(params)});
    const Tensor saved = dense(saved_in);
    info_nce_backward(
        params, read_pointer<T>(saved),
        InfoNceGradients<T>{.loss = read_pointer<T>(grad_loss),
                            .views = {wanted_pointer<T>(out_a), wanted_pointer<T>(out_b)}},
        call);
  });
  call.done();
  return {out_a, out_b};
}

MCLREC_LIBRARY_IMPL(m) {
  m.impl("info_nce", TORCH_BOX(&info_nce_op));
  m.impl("info_nce_backward", TORCH_BOX(&info_nce_backward_op));
}

}  // namespace
}  // namespace mclrec
