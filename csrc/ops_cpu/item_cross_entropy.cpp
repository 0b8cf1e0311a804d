// CPU registration of item_cross_entropy: checks, allocation, the call.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <tuple>

#include "../cpu/item_cross_entropy_cpu.h"
#include "checks.h"

namespace mclrec {
namespace {

template <class T>
void call(const Tensor& h, const Tensor& items, const Tensor& targets, const Tensor& loss,
          const Tensor& grad_h, const Tensor& grad_items) {
  ItemCrossEntropyParams<T> params;
  params.h = read_pointer<T>(h);
  params.items = read_pointer<T>(items);
  params.targets = read_pointer<int64_t>(targets);
  params.rows = h.size(0);
  params.classes = items.size(0);
  params.width = h.size(1);
  params.loss = write_pointer<T>(loss);
  params.grad_h = grad_h.numel() > 0 ? write_pointer<T>(grad_h) : nullptr;
  params.grad_items = grad_items.numel() > 0 ? write_pointer<T>(grad_items) : nullptr;
  item_cross_entropy(params);
}

// h [B, D], item_embedding [V, D], targets int64 [B] -> loss [], and the gradients of the loss
// where wanted (otherwise [0]).
std::tuple<Tensor, Tensor, Tensor> item_cross_entropy_op(const Tensor& h,
                                                         const Tensor& item_embedding,
                                                         const Tensor& targets, bool grad_h,
                                                         bool grad_items) {
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
  const Tensor loss = torch::stable::new_empty(h, {});
  const Tensor out_h = grad_h ? torch::stable::new_empty(rows, {h.size(0), h.size(1)})
                              : torch::stable::new_empty(rows, {0});
  const Tensor out_items = grad_items
                               ? torch::stable::new_empty(items, {items.size(0), items.size(1)})
                               : torch::stable::new_empty(items, {0});
  if (h.scalar_type() == ScalarType::Float) {
    call<float>(rows, items, wanted, loss, out_h, out_items);
  } else {
    call<double>(rows, items, wanted, loss, out_h, out_items);
  }
  return {loss, out_h, out_items};
}

}  // namespace
}  // namespace mclrec

STABLE_TORCH_LIBRARY_IMPL(mclrec_fast, CPU, m) {
  m.impl("item_cross_entropy", TORCH_BOX(&mclrec::item_cross_entropy_op));
}
