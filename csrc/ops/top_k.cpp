// top_k for torch, on the CPU and on CUDA: checks, allocation, the call. Values on a GPU are not
// read here: an item outside the table excludes nothing.
#include <optional>
#include <tuple>

#include "checks.h"
#include "device.h"
#include "item_lists.h"
#ifdef MCLREC_CUDA
#include "../cuda/top_k_cuda.h"
#else
#include "../cpu/top_k_cpu.h"
#endif

namespace mclrec {
namespace {

#ifdef MCLREC_CUDA
using cuda::top_k;
#else
template <class T>
void top_k(const TopKArguments<T>& arguments, const Call&) {
  top_k_cpu(arguments);
}
#endif

// h [B, D], item_embedding [V, D], exclude [K], exclude_offsets [B + 1], candidates [A] or none ->
// scores and items [B, k].
std::tuple<Tensor, Tensor> top_k_op(const Tensor& h_in, const Tensor& item_embedding, int64_t k,
                                    const Tensor& exclude_in, const Tensor& offsets_in,
                                    const std::optional<Tensor>& candidates_in) {
  const char* op = "top_k";
  const Checker check(op, h_in);
  check_scoring(check, h_in, item_embedding);
  check.require(k >= 0, "k must not be negative, got ", k);
  check_item_lists(check, "exclude", exclude_in, offsets_in, h_in.size(0));
  if (candidates_in) check.tensor("candidates", *candidates_in, ScalarType::Int, {-1});
  Call call(op, h_in);
  const Tensor h = dense(h_in), items = dense(item_embedding);
  const Tensor exclude = dense(exclude_in), offsets = dense(offsets_in);
  std::optional<Tensor> candidates;
  if (candidates_in) candidates = dense(*candidates_in);
  if constexpr (kReadsValues) {
    check_item_list_values(check, "exclude", exclude, offsets, items.size(0));
    if (candidates) check_candidate_values(check, *candidates, items.size(0));
  }
  const Tensor scores = empty(h, {h.size(0), k}), best_items = empty(offsets, {h.size(0), k});
  if (scores.numel() == 0) return {scores, best_items};
  by_dtype(h, [&]<class T>() {
    top_k(TopKArguments<T>{.h = read_pointer<T>(h),
                           .items = read_pointer<T>(items),
                           .exclude = read_pointer<int32_t>(exclude),
                           .exclude_offsets = read_pointer<int64_t>(offsets),
                           .candidates = candidates ? read_pointer<int32_t>(*candidates) : nullptr,
                           .batch = h.size(0),
                           .classes = items.size(0),
                           .hidden = h.size(1),
                           .entries = exclude.size(0),
                           .candidate_count = candidates ? candidates->size(0) : items.size(0) - 1,
                           .k = k,
                           .scores = write_pointer<T>(scores),
                           .best_items = write_pointer<int64_t>(best_items)},
          call);
  });
  call.done();
  return {scores, best_items};
}

MCLREC_LIBRARY_IMPL(m) { m.impl("top_k", TORCH_BOX(&top_k_op)); }

}  // namespace
}  // namespace mclrec
