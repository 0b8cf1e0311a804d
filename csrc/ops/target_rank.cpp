// target_rank for torch, on the CPU and on CUDA: checks, allocation, the call. Values on a GPU are
// not read here; a target outside the table gets rank -1.
#include "checks.h"
#include "device.h"
#include "item_lists.h"
#ifdef MCLREC_CUDA
#include "../cuda/target_rank_cuda.h"
#else
#include "../cpu/target_rank_cpu.h"
#endif

namespace mclrec {
namespace {

#ifdef MCLREC_CUDA
using cuda::target_rank;
#else
template <class T>
void target_rank(const TargetRankArguments<T>& arguments, const Call&) {
  target_rank_cpu(arguments);
}
#endif

void check_targets(const Checker& check, const Tensor& targets, int64_t classes) {
  const int64_t* target = read_pointer<int64_t>(targets);
  for (int64_t row = 0; row < targets.size(0); ++row) {
    check.require(target[row] >= 1 && target[row] < classes, "targets[", row, "] is ", target[row],
                  "; items are 1 .. ", classes - 1, " (0 is padding)");
  }
}

// h [B, D], item_embedding [V, D], targets [B], history [K], history_offsets [B + 1] -> [4, B].
Tensor target_rank_op(const Tensor& h_in, const Tensor& item_embedding, const Tensor& targets_in,
                      const Tensor& history_in, const Tensor& offsets_in) {
  const char* op = "target_rank";
  const Checker check(op, h_in);
  check_scoring(check, h_in, item_embedding);
  check.tensor("targets", targets_in, ScalarType::Long, {h_in.size(0)});
  check_item_lists(check, "history", history_in, offsets_in, h_in.size(0));
  Call call(op, h_in);
  const Tensor h = dense(h_in), items = dense(item_embedding), targets = dense(targets_in);
  const Tensor history = dense(history_in), offsets = dense(offsets_in);
  if constexpr (kReadsValues) {
    check_targets(check, targets, items.size(0));
    check_item_list_values(check, "history", history, offsets, items.size(0));
  }
  const Tensor ranks = empty(targets, {4, h.size(0)});
  if (h.size(0) == 0) return ranks;
  by_dtype(h, [&]<class T>() {
    target_rank(TargetRankArguments<T>{.h = read_pointer<T>(h),
                                       .items = read_pointer<T>(items),
                                       .targets = read_pointer<int64_t>(targets),
                                       .history = read_pointer<int32_t>(history),
                                       .history_offsets = read_pointer<int64_t>(offsets),
                                       .batch = h.size(0),
                                       .classes = items.size(0),
                                       .hidden = h.size(1),
                                       .entries = history.size(0),
                                       .ranks = write_pointer<int64_t>(ranks)},
                call);
  });
  call.done();
  return ranks;
}

MCLREC_LIBRARY_IMPL(m) { m.impl("target_rank", TORCH_BOX(&target_rank_op)); }

}  // namespace
}  // namespace mclrec
