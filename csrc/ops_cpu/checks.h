// Checks of operator arguments, for the op files. A failed check throws std::invalid_argument,
// which reaches Python as a ValueError with the text given here: "op: name must ..., got ...".
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>

namespace mclrec {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// check(condition, "op: ", value, ...): the parts are joined into the message.
template <class... Parts>
void check(bool condition, const Parts&... parts) {
  if (condition) return;
  std::ostringstream message;
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

inline const char* dtype_name(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Bool:
      return "bool";
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    default:
      return "another dtype";
  }
}

inline std::string shape_text(const Tensor& tensor) {
  std::ostringstream text;
  text << "[";
  for (int64_t d = 0; d < tensor.dim(); ++d) text << (d ? ", " : "") << tensor.size(d);
  text << "]";
  return text.str();
}

// A tensor of this dtype and shape, on any device; -1 in `shape` stands for any size.
inline void check_dtype_and_shape(const char* op, const char* name, const Tensor& tensor,
                                  ScalarType dtype, std::initializer_list<int64_t> shape) {
  check(tensor.scalar_type() == dtype, op, ": ", name, " must be ", dtype_name(dtype), ", got ",
        dtype_name(tensor.scalar_type()));
  bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
  int64_t d = 0;
  for (const int64_t size : shape) {
    if (fits && size >= 0 && tensor.size(d) != size) fits = false;
    ++d;
  }
  if (fits) return;
  std::ostringstream wanted;
  d = 0;
  for (const int64_t size : shape) {
    wanted << (d++ ? ", " : "");
    if (size < 0) {
      wanted << "*";
    } else {
      wanted << size;
    }
  }
  check(false, op, ": ", name, " must have shape [", wanted.str(), "], got ", shape_text(tensor));
}

// The same on the CPU.
inline void check_tensor(const char* op, const char* name, const Tensor& tensor, ScalarType dtype,
                         std::initializer_list<int64_t> shape) {
  check(tensor.is_cpu(), op, ": ", name, " must be on the CPU");
  check_dtype_and_shape(op, name, tensor, dtype, shape);
}

// float32 or float64, for ops that have both kernels.
inline void check_floating(const char* op, const char* name, const Tensor& tensor) {
  const ScalarType dtype = tensor.scalar_type();
  check(dtype == ScalarType::Float || dtype == ScalarType::Double, op, ": ", name,
        " must be float32 or float64, got ", dtype_name(dtype));
}

// Pointers to the elements of a contiguous tensor (checked by the caller through its dtype).
template <class T>
const T* read_pointer(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
T* write_pointer(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

}  // namespace mclrec
