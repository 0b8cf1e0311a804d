// target_rank for torch: checks and allocation; the work is in cpu/target_rank_cpu.cpp.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "../cpu/target_rank_cpu.h"
#include "item_lists.h"

namespace mclrec {
namespace {

constexpr const char* kOp = "target_rank";

void check_targets(const Tensor& targets, int64_t batch, int64_t classes) {
  check_tensor(kOp, "targets", targets, ScalarType::Long, {batch});
  check(targets.is_contiguous(), kOp, ": targets must be contiguous");
  const int64_t* target = read_pointer<int64_t>(targets);
  for (int64_t row = 0; row < batch; ++row) {
    check(target[row] >= 1 && target[row] < classes, kOp, ": targets[", row, "] is ", target[row],
          "; items are 1 .. ", classes - 1, " (0 is padding)");
  }
}

template <class T>
void run(const Tensor& h, const Tensor& item_embedding, const Tensor& targets,
         const Tensor& history, const Tensor& history_offsets, Tensor& ranks) {
  TargetRankArguments<T> arguments;
  arguments.h = read_pointer<T>(h);
  arguments.items = read_pointer<T>(item_embedding);
  arguments.targets = read_pointer<int64_t>(targets);
  arguments.history = read_pointer<int32_t>(history);
  arguments.history_offsets = read_pointer<int64_t>(history_offsets);
  arguments.batch = h.size(0);
  arguments.classes = item_embedding.size(0);
  arguments.depth = h.size(1);
  arguments.ranks = write_pointer<int64_t>(ranks);
  target_rank_cpu(arguments);
}

// h [B, D], item_embedding [V, D], targets [B], history [K], history_offsets [B + 1] -> [4, B].
Tensor target_rank_op(const Tensor& h_in, const Tensor& item_embedding_in, const Tensor& targets_in,
                      const Tensor& history_in, const Tensor& history_offsets_in) {
  using torch::stable::contiguous;
  const Tensor h = contiguous(h_in), item_embedding = contiguous(item_embedding_in);
  const Tensor targets = contiguous(targets_in), history = contiguous(history_in);
  const Tensor offsets = contiguous(history_offsets_in);
  check_scoring(kOp, h, item_embedding);
  check_targets(targets, h.size(0), item_embedding.size(0));
  check_item_lists(kOp, "history", history, offsets, h.size(0), item_embedding.size(0));
  Tensor ranks = torch::stable::new_empty(targets, {4, h.size(0)});
  if (h.scalar_type() == ScalarType::Float) {
    run<float>(h, item_embedding, targets, history, offsets, ranks);
  } else {
    run<double>(h, item_embedding, targets, history, offsets, ranks);
  }
  return ranks;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mclrec_fast, CPU, m) {
  m.impl("target_rank", TORCH_BOX(&target_rank_op));
}

}  // namespace mclrec
