// item_cross_entropy for torch, on the CPU and on CUDA: checks, allocation, the call. Targets on a
// GPU are not read here; one outside the table makes the loss NaN.
#include <tuple>

#include "checks.h"
#include "device.h"
#ifdef MCLREC_CUDA
#include "../cuda/item_cross_entropy_cuda.h"
#else
#include "../cpu/item_cross_entropy_cpu.h"
#include "../ops_cpu/chain.h"
#endif

namespace mclrec {
namespace {

#ifdef MCLREC_CUDA
using cuda::item_cross_entropy;
#else
template <class T>
void item_cross_entropy(const ItemCrossEntropyParams<T>& params, const Call&) {
  mclrec::item_cross_entropy(params);
}
#endif

void check_targets(const Checker& check, const Tensor& targets, int64_t classes) {
  const int64_t* target = read_pointer<int64_t>(targets);
  for (int64_t row = 0; row < targets.size(0); ++row) {
    check.require(target[row] >= 0 && target[row] < classes, "targets[", row, "] is ", target[row],
                  ", outside the ", classes, " items");
  }
}

}  // namespace

// h [B, D], item_embedding [V, D], targets int64 [B] -> loss [], and the gradients of the loss
// where wanted (otherwise [0]).
std::tuple<Tensor, Tensor, Tensor> item_cross_entropy_op(const Tensor& h_in,
                                                         const Tensor& item_embedding,
                                                         const Tensor& targets_in, bool grad_h,
                                                         bool grad_items) {
  const char* op = "item_cross_entropy";
  const Checker check(op, h_in);
  check.floating("h", h_in, {-1, -1});
  check.require(h_in.numel() > 0, "h must not be empty, got ", ShapeText(h_in));
  check.tensor("item_embedding", item_embedding, h_in.scalar_type(), {-1, h_in.size(1)});
  check.require(item_embedding.size(0) > 0, "item_embedding must have at least one row");
  check.tensor("targets", targets_in, ScalarType::Long, {h_in.size(0)});
  check.rows({h_in.size(0), item_embedding.size(0)});
  Call call(op, h_in);
  const Tensor h = dense(h_in), items = dense(item_embedding), targets = dense(targets_in);
  if constexpr (kReadsValues) check_targets(check, targets, items.size(0));
  const Tensor loss = empty(h, {});
  return by_dtype(h, [&]<class T>() -> std::tuple<Tensor, Tensor, Tensor> {
    const auto gradient = [&](const Tensor& of, bool wanted) {
      return wanted ? kept<T>(of, {of.size(0), of.size(1)}) : empty(of, {0});
    };
    const Tensor out_h = gradient(h, grad_h), out_items = gradient(items, grad_items);
    item_cross_entropy(ItemCrossEntropyParams<T>{.h = read_pointer<T>(h),
                                                 .items = read_pointer<T>(items),
                                                 .targets = read_pointer<int64_t>(targets),
                                                 .rows = h.size(0),
                                                 .classes = items.size(0),
                                                 .hidden = h.size(1),
                                                 .loss = write_pointer<T>(loss),
                                                 .grad_h = wanted_pointer<T>(out_h),
                                                 .grad_items = wanted_pointer<T>(out_items)},
                       call);
    call.done();
    return {loss, out_h, out_items};
  });
}

namespace {

MCLREC_LIBRARY_IMPL(m) { m.impl("item_cross_entropy", TORCH_BOX(&item_cross_entropy_op)); }

}  // namespace
}  // namespace mclrec
