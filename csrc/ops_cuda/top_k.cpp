// CUDA registration of top_k: checks, allocation, the launches. Values on the device are not read
// here: offsets are clamped to the exclusions there are, and an item outside the table excludes
// nothing.
#include <limits>
#include <tuple>

#include "../cuda/top_k_cuda.h"
#include "common.h"

namespace mclrec {
namespace {

template <class T>
void run(const Tensor& h, const Tensor& items, const Tensor& exclude, const Tensor& offsets,
         const Tensor& scores, const Tensor& best_items) {
  const int64_t k = scores.size(1);
  const cuda::TopKScratch size = cuda::top_k_scratch(h.size(0), items.size(0), k);
  const DeviceScope scope(h);
  const Tensor scratch_scores = allocate(h, {size.lists});
  const Tensor scratch_items = allocate(exclude, {size.lists + size.broken});
  cuda::top_k(
      cuda::TopK<T>{read_pointer<T>(h), read_pointer<T>(items), read_pointer<int32_t>(exclude),
                    read_pointer<int64_t>(offsets), h.size(0), items.size(0), exclude.size(0),
                    static_cast<int>(h.size(1)), k, write_pointer<T>(scratch_scores),
                    write_pointer<int32_t>(scratch_items), write_pointer<T>(scores),
                    write_pointer<int64_t>(best_items)},
      scope.stream());
  check_launches("top_k");
}

// h [B, D], item_embedding [V, D], exclude [K], exclude_offsets [B + 1] -> scores and items [B, k].
std::tuple<Tensor, Tensor> top_k(const Tensor& h_in, const Tensor& item_embedding, int64_t k,
                                 const Tensor& exclude_in, const Tensor& offsets_in) {
  const char* op = "top_k";
  check_floating(op, "h", h_in);
  check_device_tensor(op, "h", h_in, h_in.scalar_type(), {-1, -1}, h_in);
  check_device_tensor(op, "item_embedding", item_embedding, h_in.scalar_type(), {-1, h_in.size(1)},
                      h_in);
  check_device_tensor(op, "exclude", exclude_in, ScalarType::Int, {-1}, h_in);
  check_device_tensor(op, "exclude_offsets", offsets_in, ScalarType::Long, {h_in.size(0) + 1},
                      h_in);
  check(k >= 0, op, ": k must not be negative, got ", k);
  check(h_in.size(1) > 0 && item_embedding.size(0) > 0, op, ": an empty table or depth");
  check(item_embedding.size(0) < std::numeric_limits<int32_t>::max() / 2 &&
            h_in.size(0) < std::numeric_limits<int32_t>::max() / 2,
        op, ": too many rows");
  const Tensor h = aligned(h_in), items = aligned(item_embedding);
  const Tensor exclude = aligned(exclude_in), offsets = aligned(offsets_in);
  const DeviceScope scope(h);
  const Tensor scores = allocate(h, {h.size(0), k}), best_items = allocate(offsets, {h.size(0), k});
  if (h.size(0) == 0 || k == 0) return {scores, best_items};
  if (h.scalar_type() == ScalarType::Float) {
    run<float>(h, items, exclude, offsets, scores, best_items);
  } else {
    run<double>(h, items, exclude, offsets, scores, best_items);
  }
  return {scores, best_items};
}

MCLREC_CUDA_LIBRARY_IMPL(m) { m.impl("top_k", TORCH_BOX(&top_k)); }

}  // namespace
}  // namespace mclrec
