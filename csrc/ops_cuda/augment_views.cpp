// CUDA registration of augment_views and gather_sequences: checks, allocation, the launches. Values
// on the device are not checked, which would wait for it: the kernels clamp wrong slices to the
// log.
#include <algorithm>
#include <limits>
#include <tuple>

#include "../cuda/augment_views_cuda.h"
#include "common.h"

namespace mclrec {
namespace {

using Packed = std::tuple<Tensor, Tensor, Tensor>;  // items, positions, offsets

Packed run(const char* op, const Tensor& items_in, const Tensor& starts_in,
           const Tensor& lengths_in, int64_t max_length, const cuda::AugmentParams& params) {
  check_device_tensor(op, "items", items_in, ScalarType::Int, {-1}, items_in);
  check_device_tensor(op, "starts", starts_in, ScalarType::Long, {-1}, items_in);
  check_device_tensor(op, "lengths", lengths_in, ScalarType::Int, {starts_in.size(0)}, items_in);
  const int64_t count = starts_in.size(0), rows = (1 + params.views) * count;
  check(max_length >= 1 && max_length <= cuda::kLongestHistory, op, ": max_length must be in 1..",
        cuda::kLongestHistory, " on CUDA, got ", max_length);
  check(max_length <= std::numeric_limits<int32_t>::max() / std::max<int64_t>(rows, 1), op, ": ",
        rows, " sequences of up to ", max_length,
        " items are more than 2^31 tokens; use a smaller batch");
  check(count == 0 || items_in.size(0) > 0, op, ": sequences of an empty log");
  const Tensor items = torch::stable::contiguous(items_in);      // [I]
  const Tensor starts = torch::stable::contiguous(starts_in);    // [S]
  const Tensor lengths = torch::stable::contiguous(lengths_in);  // [S]

  const DeviceScope scope(items);
  const Tensor packed_items = zeros(items, {rows * max_length});
  const Tensor positions = zeros(items, {rows * max_length});
  const Tensor offsets = allocate(items, {rows + 1});
  const Tensor row_lengths = allocate(items, {rows});
  const Tensor totals = allocate(items, {cuda::augment_blocks(rows)});
  const cuda::Histories histories{read_pointer<int32_t>(items),
                                  read_pointer<int64_t>(starts),
                                  read_pointer<int32_t>(lengths),
                                  items.size(0),
                                  count,
                                  static_cast<int32_t>(max_length)};
  cuda::augment_views(histories, params,
                      {write_pointer<int32_t>(packed_items), write_pointer<int32_t>(positions),
                       write_pointer<int32_t>(offsets), write_pointer<int32_t>(row_lengths),
                       write_pointer<int32_t>(totals)},
                      scope.stream());
  check_launches(op);
  return {packed_items, positions, offsets};
}

Packed gather_sequences(const Tensor& items, const Tensor& starts, const Tensor& lengths,
                        int64_t max_length) {
  return run("gather_sequences", items, starts, lengths, max_length, {});
}

Packed augment_views(const Tensor& items, const Tensor& starts, const Tensor& lengths,
                     int64_t max_length, double crop_ratio, double mask_ratio, double reorder_ratio,
                     int64_t seed, int64_t batch) {
  check(crop_ratio >= 0.0 && crop_ratio < 1.0 && mask_ratio >= 0.0 && mask_ratio < 1.0 &&
            reorder_ratio >= 0.0 && reorder_ratio <= 1.0,
        "augment_views: ratios must satisfy 0 <= crop < 1, 0 <= mask < 1, 0 <= reorder <= 1, got ",
        crop_ratio, ", ", mask_ratio, ", ", reorder_ratio);
  check(batch >= 0 && batch <= std::numeric_limits<uint32_t>::max(),
        "augment_views: batch must be in 0..2^32-1, got ", batch);
  return run("augment_views", items, starts, lengths, max_length,
             {{static_cast<float>(1.0 - crop_ratio), static_cast<float>(mask_ratio),
               static_cast<float>(reorder_ratio)},
              static_cast<uint64_t>(seed),
              static_cast<uint32_t>(batch),
              2});
}

MCLREC_CUDA_LIBRARY_IMPL(m) {
  m.impl("gather_sequences", TORCH_BOX(&gather_sequences));
  m.impl("augment_views", TORCH_BOX(&augment_views));
}

}  // namespace
}  // namespace mclrec
