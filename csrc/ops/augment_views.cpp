// augment_views and gather_sequences for torch, on the CPU and on CUDA: checks, allocation, the
// call. Values on a GPU are not read here: the kernels clamp wrong slices to the log.
#include <algorithm>
#include <tuple>

#include "checks.h"
#include "device.h"
#ifdef MCLREC_CUDA
#include "../cuda/augment_views_cuda.h"
#else
#include "../cpu/augment_views_cpu.h"
#endif

namespace mclrec {
namespace {

using Packed = std::tuple<Tensor, Tensor, Tensor>;  // items, positions, offsets

#ifdef MCLREC_CUDA
using cuda::augment_views;
constexpr int64_t kLongestHistory = cuda::kLongestHistory;

// Tokens nobody writes are 0.
Tensor capacity(const Tensor& like, int64_t tokens) { return zeros(like, {tokens}); }
#else
void augment_views(const Histories& histories, const AugmentParams& params,
                   const PackedOutput& output, const Call&) {
  if (params.views == 0) {
    gather_sequences_cpu(histories, output);
  } else {
    augment_views_cpu(histories, params, output);
  }
}
constexpr int64_t kLongestHistory = INT32_MAX;

Tensor capacity(const Tensor& like, int64_t tokens) { return empty(like, {tokens}); }
#endif

void check_slices(const Checker& check, const Histories& histories) {
  for (int64_t s = 0; s < histories.count; ++s) {
    const int64_t start = histories.starts[s], length = histories.lengths[s];
    check.require(length >= 1 && length <= histories.max_length, "lengths[", s, "] must be in 1..",
                  histories.max_length, ", got ", length);
    check.require(start >= 0 && start <= histories.logged - length, "sequence ", s, " (start ",
                  start, ", length ", length, ") lies outside the ", histories.logged, " items");
  }
}

Packed run(const char* op, const Tensor& items_in, const Tensor& starts_in,
           const Tensor& lengths_in, int64_t max_length, const AugmentParams& params) {
  const Checker check(op, items_in);
  check.tensor("items", items_in, ScalarType::Int, {-1});
  check.tensor("starts", starts_in, ScalarType::Long, {-1});
  check.tensor("lengths", lengths_in, ScalarType::Int, {starts_in.size(0)});
  const int64_t count = starts_in.size(0), rows = (1 + params.views) * count;
  check.require(max_length >= 1, "max_length must be at least 1, got ", max_length);
  check.require(max_length <= INT32_MAX / std::max<int64_t>(rows, 1), rows, " sequences of up to ",
                max_length, " items are more than 2^31 tokens; use a smaller batch");
  check.require(max_length <= kLongestHistory, "max_length must be in 1..", kLongestHistory,
                " on CUDA, got ", max_length);
  check.require(kReadsValues || count == 0 || items_in.size(0) > 0, "sequences of an empty log");
  Call call(op, items_in);
  const Tensor items = dense(items_in);      // [I]
  const Tensor starts = dense(starts_in);    // [S]
  const Tensor lengths = dense(lengths_in);  // [S]
  const Histories histories{.items = read_pointer<int32_t>(items),
                            .starts = read_pointer<int64_t>(starts),
                            .lengths = read_pointer<int32_t>(lengths),
                            .logged = items.size(0),
                            .count = count,
                            .max_length = max_length};
  if constexpr (kReadsValues) check_slices(check, histories);
  const Tensor packed_items = capacity(items, rows * max_length);
  const Tensor positions = capacity(items, rows * max_length);
  const Tensor offsets = empty(items, {rows + 1});
  augment_views(histories, params,
                PackedOutput{.items = write_pointer<int32_t>(packed_items),
                             .positions = write_pointer<int32_t>(positions),
                             .offsets = write_pointer<int32_t>(offsets)},
                call);
  call.done();
  return {packed_items, positions, offsets};
}

Packed gather_sequences_op(const Tensor& items, const Tensor& starts, const Tensor& lengths,
                           int64_t max_length) {
  return run("gather_sequences", items, starts, lengths, max_length, AugmentParams{});
}

Packed augment_views_op(const Tensor& items, const Tensor& starts, const Tensor& lengths,
                        int64_t max_length, double crop_ratio, double mask_ratio,
                        double reorder_ratio, int64_t seed, int64_t batch) {
  const char* op = "augment_views";
  const Checker check(op, items);
  check.require(crop_ratio >= 0.0 && crop_ratio < 1.0 && mask_ratio >= 0.0 && mask_ratio < 1.0 &&
                    reorder_ratio >= 0.0 && reorder_ratio <= 1.0,
                "ratios must satisfy 0 <= crop < 1, 0 <= mask < 1, 0 <= reorder <= 1, got ",
                crop_ratio, ", ", mask_ratio, ", ", reorder_ratio);
  check.counter("batch", batch);
  return run(op, items, starts, lengths, max_length,
             AugmentParams{.ratios = {.kept = static_cast<float>(1.0 - crop_ratio),
                                      .mask = static_cast<float>(mask_ratio),
                                      .reorder = static_cast<float>(reorder_ratio)},
                           .seed = static_cast<uint64_t>(seed),
                           .batch = static_cast<uint32_t>(batch),
                           .views = 2});
}

MCLREC_LIBRARY_IMPL(m) {
  m.impl("gather_sequences", TORCH_BOX(&gather_sequences_op));
  m.impl("augment_views", TORCH_BOX(&augment_views_op));
}

}  // namespace
}  // namespace mclrec
