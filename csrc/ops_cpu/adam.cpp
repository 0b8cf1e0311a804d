// adam_step for torch: checks, the call. On the CPU only: elsewhere torch's own fused kernel does
// it.
#include <string>
#include <vector>

#include "../cpu/adam_cpu.h"
#include "../ops/checks.h"
#include "../ops/device.h"
#include "chain.h"

namespace mclrec {

// Moves weights and both running means in place, and counts the step in `steps`, a float32 scalar.
void adam_step_op(const std::vector<Tensor>& weights, const std::vector<Tensor>& gradients,
                  const std::vector<Tensor>& first, const std::vector<Tensor>& second,
                  const Tensor& steps, double learning_rate, double beta_1, double beta_2,
                  double eps) {
  const Checker check("adam_step", steps);
  check.tensor("steps", steps, ScalarType::Float, {});
  const size_t count = weights.size();
  check.require(gradients.size() == count && first.size() == count && second.size() == count,
                "every weight must have a gradient and two means");
  if (count == 0) return;
  const ScalarType dtype = weights[0].scalar_type();
  check.require(dtype == ScalarType::Float || dtype == ScalarType::Double,
                "weights must be float32 or float64, got ", dtype_name(dtype));
  std::vector<Tensor> dense_gradients;
  for (size_t i = 0; i < count; ++i) {
    const auto same = [&](const char* name, const Tensor& tensor) {
      check.require(lies_with(tensor, steps), name, " must be ", kWhere);
      check.require(tensor.scalar_type() == dtype, name, " must be ", dtype_name(dtype), ", got ",
                    dtype_name(tensor.scalar_type()));
      check.require(tensor.dim() == weights[i].dim() && tensor.numel() == weights[i].numel(), name,
                    " must have shape ", ShapeText(weights[i]), ", got ", ShapeText(tensor));
    };
    same("weight", weights[i]);
    same("gradient", gradients[i]);
    same("first", first[i]);
    same("second", second[i]);
    check.require(
        weights[i].is_contiguous() && first[i].is_contiguous() && second[i].is_contiguous(),
        "weights and means must be contiguous");
    dense_gradients.push_back(dense(gradients[i]));
  }
  float& step = *write_pointer<float>(steps);
  step += 1;
  const AdamSettings settings{
      .learning_rate = learning_rate, .beta_1 = beta_1, .beta_2 = beta_2, .eps = eps, .step = step};
  by_dtype(weights[0], [&]<class T>() {
    std::vector<AdamArray<T>> arrays;
    for (size_t i = 0; i < count; ++i) {
      arrays.push_back({.size = weights[i].numel(),
                        .weight = write_pointer<T>(weights[i]),
                        .gradient = read_pointer<T>(dense_gradients[i]),
                        .first = write_pointer<T>(first[i]),
                        .second = write_pointer<T>(second[i])});
    }
    adam(settings, arrays);
  });
}

namespace {

MCLREC_LIBRARY_IMPL(m) { m.impl("adam_step", TORCH_BOX(&adam_step_op)); }

}  // namespace
}  // namespace mclrec
