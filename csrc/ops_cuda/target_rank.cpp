// CUDA registration of target_rank: checks, allocation, the launches. Values on the device are not
// read here; a target outside the table gets rank -1.
#include <limits>

#include "../cuda/target_rank_cuda.h"
#include "common.h"

namespace mclrec {
namespace {

template <class T>
void run(const Tensor& h, const Tensor& items, const Tensor& targets, const Tensor& history,
         const Tensor& offsets, const Tensor& ranks) {
  const DeviceScope scope(h);
  const Tensor scratch =
      allocate(history, {cuda::target_rank_scratch(h.size(0), items.size(0))}, ScalarType::Int);
  cuda::target_rank(
      cuda::TargetRank<T>{read_pointer<T>(h), read_pointer<T>(items),
                          read_pointer<int64_t>(targets), read_pointer<int32_t>(history),
                          read_pointer<int64_t>(offsets), h.size(0), items.size(0), history.size(0),
                          static_cast<int>(h.size(1)), write_pointer<int32_t>(scratch),
                          write_pointer<int64_t>(ranks)},
      scope.stream());
  check_launches("target_rank");
}

// h [B, D], item_embedding [V, D], targets [B], history [K], history_offsets [B + 1] -> [4, B].
Tensor target_rank(const Tensor& h_in, const Tensor& item_embedding, const Tensor& targets_in,
                   const Tensor& history_in, const Tensor& offsets_in) {
  const char* op = "target_rank";
  check_floating(op, "h", h_in);
  check_device_tensor(op, "h", h_in, h_in.scalar_type(), {-1, -1}, h_in);
  check_device_tensor(op, "item_embedding", item_embedding, h_in.scalar_type(), {-1, h_in.size(1)},
                      h_in);
  check_device_tensor(op, "targets", targets_in, ScalarType::Long, {h_in.size(0)}, h_in);
  check_device_tensor(op, "history", history_in, ScalarType::Int, {-1}, h_in);
  check_device_tensor(op, "history_offsets", offsets_in, ScalarType::Long, {h_in.size(0) + 1},
                      h_in);
  check(h_in.size(1) > 0 && item_embedding.size(0) > 0, op, ": an empty table or depth");
  check(item_embedding.size(0) < std::numeric_limits<int32_t>::max() / 2 &&
            h_in.size(0) < std::numeric_limits<int32_t>::max() / 2,
        op, ": too many rows");
  const Tensor h = aligned(h_in), items = aligned(item_embedding), targets = aligned(targets_in);
  const Tensor history = aligned(history_in), offsets = aligned(offsets_in);
  const DeviceScope scope(h);
  const Tensor ranks = allocate(targets, {4, h.size(0)});
  if (h.size(0) == 0) return ranks;
  if (h.scalar_type() == ScalarType::Float) {
    run<float>(h, items, targets, history, offsets, ranks);
  } else {
    run<double>(h, items, targets, history, offsets, ranks);
  }
  return ranks;
}

MCLREC_CUDA_LIBRARY_IMPL(m) { m.impl("target_rank", TORCH_BOX(&target_rank)); }

}  // namespace
}  // namespace mclrec
