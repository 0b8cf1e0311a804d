// CPU registration of augment_views and gather_sequences: checks, allocation, the call.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <limits>
#include <tuple>

#include "../cpu/augment_views_cpu.h"
#include "checks.h"

namespace mclrec {
namespace {

using Packed = std::tuple<Tensor, Tensor, Tensor>;  // items, positions, offsets

// The inputs, contiguous, with every slice inside the log.
struct Inputs {
  Tensor items;    // [I] int32
  Tensor starts;   // [S] int64
  Tensor lengths;  // [S] int32
  Histories histories;
};

Inputs check_inputs(const char* op, const Tensor& items, const Tensor& starts,
                    const Tensor& lengths, int64_t max_length, int64_t views) {
  check_tensor(op, "items", items, ScalarType::Int, {-1});
  check_tensor(op, "starts", starts, ScalarType::Long, {-1});
  check_tensor(op, "lengths", lengths, ScalarType::Int, {starts.size(0)});
  const int64_t count = starts.size(0), logged = items.size(0);
  check(max_length >= 1, op, ": max_length must be at least 1, got ", max_length);
  check(max_length <= std::numeric_limits<int32_t>::max() / (views * std::max<int64_t>(count, 1)),
        op, ": ", views, " x ", count, " sequences of up to ", max_length,
        " items are more than 2^31 tokens; use a smaller batch");
  Inputs inputs{torch::stable::contiguous(items), torch::stable::contiguous(starts),
                torch::stable::contiguous(lengths), Histories{}};
  inputs.histories = {read_pointer<int32_t>(inputs.items), read_pointer<int64_t>(inputs.starts),
                      read_pointer<int32_t>(inputs.lengths), count, max_length};
  for (int64_t s = 0; s < count; ++s) {
    const int64_t start = inputs.histories.starts[s], length = inputs.histories.lengths[s];
    check(length >= 1 && length <= max_length, op, ": lengths[", s, "] must be in 1..", max_length,
          ", got ", length);
    check(start >= 0 && start <= logged - length, op, ": sequence ", s, " (start ", start,
          ", length ", length, ") lies outside the ", logged, " items");
  }
  return inputs;
}

Packed allocate(const Tensor& items, int64_t rows, int64_t max_length) {
  return {torch::stable::new_empty(items, {rows * max_length}),
          torch::stable::new_empty(items, {rows * max_length}),
          torch::stable::new_empty(items, {rows + 1})};
}

PackedOutput pointers(const Packed& packed) {
  return {write_pointer<int32_t>(std::get<0>(packed)), write_pointer<int32_t>(std::get<1>(packed)),
          write_pointer<int32_t>(std::get<2>(packed))};
}

Packed gather_sequences(const Tensor& items, const Tensor& starts, const Tensor& lengths,
                        int64_t max_length) {
  const Inputs inputs = check_inputs("gather_sequences", items, starts, lengths, max_length, 1);
  Packed packed = allocate(items, inputs.histories.count, max_length);
  gather_sequences_cpu(inputs.histories, pointers(packed));
  return packed;
}

Packed augment_views(const Tensor& items, const Tensor& starts, const Tensor& lengths,
                     int64_t max_length, double crop_ratio, double mask_ratio, double reorder_ratio,
                     int64_t seed, int64_t batch) {
  const Inputs inputs = check_inputs("augment_views", items, starts, lengths, max_length, 3);
  check(crop_ratio >= 0.0 && crop_ratio < 1.0 && mask_ratio >= 0.0 && mask_ratio < 1.0 &&
            reorder_ratio >= 0.0 && reorder_ratio <= 1.0,
        "augment_views: ratios must satisfy 0 <= crop < 1, 0 <= mask < 1, 0 <= reorder <= 1, got ",
        crop_ratio, ", ", mask_ratio, ", ", reorder_ratio);
  check(batch >= 0 && batch <= std::numeric_limits<uint32_t>::max(),
        "augment_views: batch must be in 0..2^32-1, got ", batch);
  const AugmentParams params{{static_cast<float>(1.0 - crop_ratio), static_cast<float>(mask_ratio),
                              static_cast<float>(reorder_ratio)},
                             static_cast<uint64_t>(seed),
                             static_cast<uint32_t>(batch)};
  Packed packed = allocate(items, 3 * inputs.histories.count, max_length);
  augment_views_cpu(inputs.histories, params, pointers(packed));
  return packed;
}

STABLE_TORCH_LIBRARY_IMPL(mclrec_fast, CPU, m) {
  m.impl("gather_sequences", TORCH_BOX(&gather_sequences));
  m.impl("augment_views", TORCH_BOX(&augment_views));
}

}  // namespace
}  // namespace mclrec
