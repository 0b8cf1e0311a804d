// CPU registration of item_cross_entropy: checks, allocation, the call.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <tuple>

#include "../cpu/item_cross_entropy_cpu.h"
#include "checks.h"
#include "pooled.h"

namespace mclrec {
namespace {

using Outputs = std::tuple<Tensor, Tensor, Tensor>;

template <class T>
Outputs forward(const Tensor& h, const Tensor& items, const Tensor& targets, bool grad_h,
                bool grad_items) {
  ItemCrossEntropyParams<T> params;
  params.h = read_pointer<T>(h);
  params.items = read_pointer<T>(items);
  params.targets = read_pointer<int64_t>(targets);
  params.rows = h.size(0);
  params.classes = items.size(0);
  params.width = h.size(1);
  const Tensor loss = torch::stable::new_empty(h, {});
  const auto gradient = [&](const Tensor& of, bool wanted) {
    return wanted ? pooled_empty<T>({of.size(0), of.size(1)}, of)
                  : torch::stable::new_empty(of, {0});
  };
  const Tensor out_h = gradient(h, grad_h), out_items = gradient(items, grad_items);
  params.loss = write_pointer<T>(loss);
  params.grad_h = grad_h ? write_pointer<T>(out_h) : nullptr;
  params.grad_items = grad_items ? write_pointer<T>(out_items) : nullptr;
  item_cross_entropy(params);
  return {loss, out_h, out_items};
}

// h [B, D], item_embedding [V, D], targets int64 [B] -> loss [], and the gradients of the loss
// where wanted (otherwise [0]).
Outputs item_cross_entropy_op(const Tensor& h, const Tensor& item_embedding, const Tensor& targets,
                              bool grad_h, bool grad_items) {
  const char* op = "item_cross_entropy";
  check_floating(op, "h", h);
  check_tensor(op, "h", h, h.scalar_type(), {-1, -1});
  check(h.size(0) > 0 && h.size(1) > 0, op, ": h must not be empty, got ", shape_text(h));
  check_tensor(op, "item_embedding", item_embedding, h.scalar_type(), {-1, h.size(1)});
  check(item_embedding.size(0) > 0, op, ": item_embedding must have at least one row");
  check_tensor(op, "targets", targets, ScalarType::Long, {h.size(0)});
  const Tensor rows = torch::stable::contiguous(h);
  const Tensor items = torch::stable::contiguous(item_embedding);
  const Tensor wanted = torch::stable::contiguous(targets);
  const int64_t* target = read_pointer<int64_t>(wanted);
  for (int64_t row = 0; row < h.size(0); ++row) {
    check(target[row] >= 0 && target[row] < items.size(0), op, ": targets[", row, "] is ",
          target[row], ", outside the ", items.size(0), " items");
  }
  if (h.scalar_type() == ScalarType::Float) {
    return forward<float>(rows, items, wanted, grad_h, grad_items);
  }
  return forward<double>(rows, items, wanted, grad_h, grad_items);
}

}  // namespace
}  // namespace mclrec

STABLE_TORCH_LIBRARY_IMPL(mclrec_fast, CPU, m) {
  m.impl("item_cross_entropy", TORCH_BOX(&mclrec::item_cross_entropy_op));
}
