// What every CUDA op file needs: checks of device tensors, allocation, the stream, launch errors,
// and under which name kernels are registered. With MCLREC_CUDA_EMULATION the same files take CPU
// tensors and register for the tests' own namespace.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "../cuda/precision.h"
#include "../cuda/status_cuda.h"
#include "../ops_cpu/checks.h"

#ifdef MCLREC_CUDA_EMULATION
#define MCLREC_CUDA_LIBRARY_IMPL(m) STABLE_TORCH_LIBRARY_IMPL(mclrec_fast_emulated, CPU, m)
#else
#define MCLREC_CUDA_LIBRARY_IMPL(m) STABLE_TORCH_LIBRARY_IMPL(mclrec_fast, CUDA, m)
#endif

namespace mclrec {

// What products make of their float32 factors; see precision.cpp.
cuda::Precision precision();
void set_precision(cuda::Precision value);

inline bool on_device(const Tensor& tensor) {
#ifdef MCLREC_CUDA_EMULATION
  return tensor.is_cpu();
#else
  return tensor.is_cuda();
#endif
}

// A tensor on the device of `like`, of this dtype and shape; -1 in `shape` stands for any size.
inline void check_device_tensor(const char* op, const char* name, const Tensor& tensor,
                                ScalarType dtype, std::initializer_list<int64_t> shape,
                                const Tensor& like) {
  check(on_device(tensor) && tensor.get_device_index() == like.get_device_index(), op, ": ", name,
        " must be on the same CUDA device as the others");
  check_dtype_and_shape(op, name, tensor, dtype, shape);
}

// The device of a tensor made current, and torch's current stream on it.
class DeviceScope {
 public:
  explicit DeviceScope(const Tensor& tensor)
#ifndef MCLREC_CUDA_EMULATION
      : guard_(tensor.get_device_index()),
        stream_(
            torch::stable::accelerator::getCurrentStream(tensor.get_device_index()).nativeHandle())
#endif
  {
    static_cast<void>(tensor);
  }

  void* stream() const { return stream_; }

 private:
#ifndef MCLREC_CUDA_EMULATION
  torch::stable::accelerator::DeviceGuard guard_;
#endif
  void* stream_ = nullptr;
};

// An uninitialised tensor like `like`, of its own dtype or another. The emulation fills it with
// 0xFF (NaN), so that a number nobody wrote is noticed.
inline Tensor allocate(const Tensor& like, std::initializer_list<int64_t> shape) {
  Tensor tensor = torch::stable::new_empty(like, shape);
#ifdef MCLREC_CUDA_EMULATION
  if (tensor.numel() > 0) {
    std::memset(tensor.mutable_data_ptr(), 0xFF,
                static_cast<size_t>(tensor.numel()) * tensor.element_size());
  }
#endif
  return tensor;
}

inline Tensor allocate(const Tensor& like, std::initializer_list<int64_t> shape, ScalarType dtype) {
  Tensor tensor = torch::stable::new_empty(like, shape, dtype);
#ifdef MCLREC_CUDA_EMULATION
  if (tensor.numel() > 0) {
    std::memset(tensor.mutable_data_ptr(), 0xFF,
                static_cast<size_t>(tensor.numel()) * tensor.element_size());
  }
#endif
  return tensor;
}

inline Tensor zeros(const Tensor& like, std::initializer_list<int64_t> shape) {
  return torch::stable::new_zeros(like, shape);
}

// The tensor, contiguous and on a 16-byte boundary (a view may begin anywhere).
inline Tensor aligned(const Tensor& tensor) {
  const Tensor dense = torch::stable::contiguous(tensor);
  const auto address = reinterpret_cast<std::uintptr_t>(dense.const_data_ptr());
  return address % 16 == 0 ? dense : torch::stable::clone(dense);
}

// After the launches of an op: a failed launch becomes an exception, without waiting for the
// device.
inline void check_launches(const char* op) {
  const char* error = cuda::take_launch_error();
  if (error != nullptr)
    throw std::runtime_error(std::string(op) + ": CUDA launch failed: " + error);
}

}  // namespace mclrec
