// What an op file needs of its device. Each file of csrc/ops is compiled for the CPU and, with
// MCLREC_CUDA, once more for CUDA; with MCLREC_CUDA_EMULATION the latter takes CPU tensors and
// registers for the tests' own namespace. Here is what is the same for all; ops_cpu/device.h and
// ops_cuda/device.h hold the rest:
//   kReadsValues        whether the host may look at values without waiting for a device
//   lies_with, kWhere   where tensors must be, and the words for it
//   dense(tensor)       the tensor as kernels want it: contiguous (on CUDA also aligned)
//   empty, zeros        results, like another tensor
//   kept<T>(like, n)    what the forward pass leaves for the backward pass
//   Call                one call of kernels: a constructed one makes the device current, done()
//                       throws if a launch failed
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>

#if defined(MCLREC_CUDA_EMULATION) && !defined(MCLREC_CUDA)
#define MCLREC_CUDA
#endif

#if defined(MCLREC_CUDA_EMULATION)
#define MCLREC_LIBRARY_IMPL(m) STABLE_TORCH_LIBRARY_IMPL(mclrec_fast_emulated, CPU, m)
#elif defined(MCLREC_CUDA)
#define MCLREC_LIBRARY_IMPL(m) STABLE_TORCH_LIBRARY_IMPL(mclrec_fast, CUDA, m)
#else
#define MCLREC_LIBRARY_IMPL(m) STABLE_TORCH_LIBRARY_IMPL(mclrec_fast, CPU, m)
#endif

namespace mclrec {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Shape = torch::headeronly::IntHeaderOnlyArrayRef;

// Pointers to the elements of a dense tensor (its dtype is checked by the caller).
template <class T>
const T* read_pointer(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
T* write_pointer(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// The same, null for a tensor without elements: a gradient that is not wanted.
template <class T>
T* wanted_pointer(const Tensor& tensor) {
  return tensor.numel() > 0 ? write_pointer<T>(tensor) : nullptr;
}

// function.operator()<T>() with the T of a tensor that is float32 or float64.
template <class Function>
auto by_dtype(const Tensor& tensor, const Function& function) {
  return tensor.scalar_type() == ScalarType::Double ? function.template operator()<double>()
                                                    : function.template operator()<float>();
}

}  // namespace mclrec

#ifdef MCLREC_CUDA
#include "../ops_cuda/device.h"
#else
#include "../ops_cpu/device.h"
#endif

namespace mclrec {

// A gradient like `of`, [0] if it is not wanted.
inline Tensor gradient_like(const Tensor& of, bool wanted) {
  if (!wanted) return empty(of, {0});
  return of.dim() == 1 ? empty(of, {of.size(0)}) : empty(of, {of.size(0), of.size(1)});
}

}  // namespace mclrec
