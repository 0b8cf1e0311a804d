// top_k for torch: checks and allocation; the work is in cpu/top_k_cpu.cpp.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <tuple>

#include "../cpu/top_k_cpu.h"
#include "item_lists.h"

namespace mclrec {
namespace {

constexpr const char* kOp = "top_k";

template <class T>
void run(const Tensor& h, const Tensor& item_embedding, const Tensor& exclude,
         const Tensor& exclude_offsets, Tensor& scores, Tensor& items) {
  TopKArguments<T> arguments;
  arguments.h = read_pointer<T>(h);
  arguments.items = read_pointer<T>(item_embedding);
  arguments.exclude = read_pointer<int32_t>(exclude);
  arguments.exclude_offsets = read_pointer<int64_t>(exclude_offsets);
  arguments.batch = h.size(0);
  arguments.classes = item_embedding.size(0);
  arguments.depth = h.size(1);
  arguments.k = scores.size(1);
  arguments.scores = write_pointer<T>(scores);
  arguments.best_items = write_pointer<int64_t>(items);
  top_k_cpu(arguments);
}

// h [B, D], item_embedding [V, D], exclude [K], exclude_offsets [B + 1] -> scores and items [B, k].
std::tuple<Tensor, Tensor> top_k_op(const Tensor& h_in, const Tensor& item_embedding_in, int64_t k,
                                    const Tensor& exclude_in, const Tensor& exclude_offsets_in) {
  using torch::stable::contiguous;
  const Tensor h = contiguous(h_in), item_embedding = contiguous(item_embedding_in);
  const Tensor exclude = contiguous(exclude_in), offsets = contiguous(exclude_offsets_in);
  check_scoring(kOp, h, item_embedding);
  check(k >= 0, kOp, ": k must not be negative, got ", k);
  check_item_lists(kOp, "exclude", exclude, offsets, h.size(0), item_embedding.size(0));
  Tensor scores = torch::stable::new_empty(h, {h.size(0), k});
  Tensor items = torch::stable::new_empty(offsets, {h.size(0), k});
  if (h.scalar_type() == ScalarType::Float) {
    run<float>(h, item_embedding, exclude, offsets, scores, items);
  } else {
    run<double>(h, item_embedding, exclude, offsets, scores, items);
  }
  return {scores, items};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mclrec_fast, CPU, m) { m.impl("top_k", TORCH_BOX(&top_k_op)); }

}  // namespace mclrec
