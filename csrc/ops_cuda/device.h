// CUDA's part of ops/device.h, on a GPU or emulated.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include <array>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "../cuda/context.h"
#include "../cuda/status_cuda.h"
#include "../ops/device.h"
#include "precision.h"

namespace mclrec {

inline constexpr bool kReadsValues = false;
inline constexpr const char* kWhere = "on the same CUDA device as the others";

inline bool lies_with(const Tensor& tensor, const Tensor& like) {
#ifdef MCLREC_CUDA_EMULATION
  const bool here = tensor.is_cpu();
#else
  const bool here = tensor.is_cuda();
#endif
  return here && tensor.get_device_index() == like.get_device_index();
}

// A view may begin anywhere; kernels load 16 bytes at a time.
inline Tensor dense(const Tensor& tensor) {
  const Tensor contiguous = torch::stable::contiguous(tensor);
  const auto address = reinterpret_cast<std::uintptr_t>(contiguous.const_data_ptr());
  return address % 16 == 0 ? contiguous : torch::stable::clone(contiguous);
}

// The emulation fills new memory with 0xFF (NaN), so that a number nobody wrote is noticed.
inline Tensor empty(const Tensor& like, Shape shape, ScalarType dtype) {
  Tensor tensor = torch::stable::new_empty(like, shape, dtype);
#ifdef MCLREC_CUDA_EMULATION
  if (tensor.numel() > 0) {
    std::memset(tensor.mutable_data_ptr(), 0xFF,
                static_cast<size_t>(tensor.numel()) * tensor.element_size());
  }
#endif
  return tensor;
}

inline Tensor empty(const Tensor& like, Shape shape) {
  return empty(like, shape, like.scalar_type());
}

inline Tensor zeros(const Tensor& like, Shape shape) {
  return torch::stable::new_zeros(like, shape);
}

template <class T>
Tensor kept(const Tensor& like, Shape shape) {
  return empty(like, shape);
}

// Makes the device of a tensor current and finds torch's stream on it.
class DeviceScope {
 protected:
#ifdef MCLREC_CUDA_EMULATION
  explicit DeviceScope(const Tensor&) {}
  void* current_ = nullptr;
#else
  explicit DeviceScope(const Tensor& tensor)
      : guard_(tensor.get_device_index()),
        current_(torch::stable::accelerator::getCurrentStream(tensor.get_device_index())
                     .nativeHandle()) {}
  torch::stable::accelerator::DeviceGuard guard_;
  void* current_;
#endif
};

class Call final : private DeviceScope, public cuda::Context {
 public:
  Call(const char* op, const Tensor& like)
      : DeviceScope(like), Context(current_, mclrec::precision()), op_(op), like_(like) {}

  cuda::SortedKeys sort(const std::int32_t* keys, std::int64_t count) override {
    const Tensor unsorted = torch::stable::from_blob(const_cast<std::int32_t*>(keys), {count}, {1},
                                                     like_.device(), ScalarType::Int);
    // sort.stable(Tensor self, *, bool? stable, int dim, bool descending) -> (values, indices)
    std::array<StableIValue, 4> stack{torch::stable::detail::from(unsorted),
                                      torch::stable::detail::from(std::optional<bool>(true)),
                                      torch::stable::detail::from(std::int64_t{0}),
                                      torch::stable::detail::from(false)};
    STABLE_TORCH_ERROR_CODE_CHECK(
        torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
    for (const StableIValue& sorted : {stack[0], stack[1]}) {
      scratch_.push_back(torch::stable::detail::to<Tensor>(sorted));
    }
    const Tensor &order = scratch_.back(), &values = scratch_[scratch_.size() - 2];
    return {read_pointer<std::int32_t>(values), read_pointer<std::int64_t>(order)};
  }

  // A failed launch becomes an exception, without waiting for the device.
  void done() const {
    const char* error = cuda::take_launch_error();
    if (error != nullptr) {
      throw std::runtime_error(std::string(op_) + ": CUDA launch failed: " + error);
    }
  }

 private:
  // torch's allocator hands memory on in the order of the stream, so it may go with the call.
  void* bytes(std::int64_t count) override {
    if (count == 0) return nullptr;
    scratch_.push_back(empty(like_, {count}, ScalarType::Byte));
    return scratch_.back().mutable_data_ptr();
  }

  const char* op_;
  Tensor like_;
  std::vector<Tensor> scratch_;
};

}  // namespace mclrec
