// CUDA registration of item_cross_entropy: checks, allocation, the launches. Targets are on the
// device and are not read here; one outside the table makes the loss NaN.
#include <limits>
#include <tuple>

#include "../cuda/item_cross_entropy_cuda.h"
#include "common.h"

namespace mclrec {
namespace {

template <class T>
void run(const Tensor& h, const Tensor& items, const Tensor& targets, const Tensor& loss,
         const Tensor& grad_h, const Tensor& grad_items) {
  const int depth = static_cast<int>(h.size(1));
  const bool wants_h = grad_h.numel() > 0;
  const DeviceScope scope(h);
  const Tensor scratch =
      allocate(h, {cuda::item_cross_entropy_scratch(h.size(0), items.size(0), depth, wants_h)});
  cuda::item_cross_entropy(
      cuda::ItemCrossEntropy<T>{read_pointer<T>(h), read_pointer<T>(items),
                                read_pointer<int64_t>(targets), h.size(0), items.size(0), depth,
                                precision(), write_pointer<T>(scratch), write_pointer<T>(loss),
                                wants_h ? write_pointer<T>(grad_h) : nullptr,
                                grad_items.numel() > 0 ? write_pointer<T>(grad_items) : nullptr},
      scope.stream());
  check_launches("item_cross_entropy");
}

// h [B, D], item_embedding [V, D], targets int64 [B] -> loss [], and the gradients of the loss
// where wanted (otherwise [0]).
std::tuple<Tensor, Tensor, Tensor> item_cross_entropy(const Tensor& h_in,
                                                      const Tensor& item_embedding,
                                                      const Tensor& targets_in, bool grad_h,
                                                      bool grad_items) {
  const char* op = "item_cross_entropy";
  check_floating(op, "h", h_in);
  check_device_tensor(op, "h", h_in, h_in.scalar_type(), {-1, -1}, h_in);
  check(h_in.size(0) > 0 && h_in.size(1) > 0, op, ": h must not be empty, got ", shape_text(h_in));
  check_device_tensor(op, "item_embedding", item_embedding, h_in.scalar_type(), {-1, h_in.size(1)},
                      h_in);
  check(item_embedding.size(0) > 0, op, ": item_embedding must have at least one row");
  check_device_tensor(op, "targets", targets_in, ScalarType::Long, {h_in.size(0)}, h_in);
  check(item_embedding.size(0) < std::numeric_limits<int32_t>::max() / 2 &&
            h_in.size(0) < std::numeric_limits<int32_t>::max() / 2,
        op, ": too many rows");
  const Tensor h = aligned(h_in), items = aligned(item_embedding), targets = aligned(targets_in);
  const DeviceScope scope(h);
  const Tensor loss = allocate(h, {});
  const Tensor out_h = grad_h ? allocate(h, {h.size(0), h.size(1)}) : allocate(h, {0});
  const Tensor out_items =
      grad_items ? allocate(h, {items.size(0), items.size(1)}) : allocate(h, {0});
  if (h.scalar_type() == ScalarType::Float) {
    run<float>(h, items, targets, loss, out_h, out_items);
  } else {
    run<double>(h, items, targets, loss, out_h, out_items);
  }
  return {loss, out_h, out_items};
}

MCLREC_CUDA_LIBRARY_IMPL(m) { m.impl("item_cross_entropy", TORCH_BOX(&item_cross_entropy)); }

}  // namespace
}  // namespace mclrec
