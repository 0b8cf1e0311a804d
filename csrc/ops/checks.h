// Checks of operator arguments. A failed check throws std::invalid_argument, which reaches Python
// as a ValueError with the text given here: "op: name must ..., got ...".
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>

#include "device.h"

namespace mclrec {

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

// Writes itself as "[2, 3]" when a message needs it; a negative size is "*".
class ShapeText {
 public:
  explicit ShapeText(const Tensor& tensor) : tensor_(&tensor) {}
  explicit ShapeText(Shape shape) : shape_(shape) {}

  friend std::ostream& operator<<(std::ostream& text, const ShapeText& self) {
    const int64_t dims = self.tensor_ ? self.tensor_->dim() : int64_t(self.shape_.size());
    text << "[";
    for (int64_t d = 0; d < dims; ++d) {
      const int64_t size = self.tensor_ ? self.tensor_->size(d) : self.shape_[size_t(d)];
      text << (d ? ", " : "") << (size < 0 ? "*" : std::to_string(size));
    }
    return text << "]";
  }

 private:
  const Tensor* tensor_ = nullptr;
  Shape shape_;
};

// The checks of one call of `op`, whose tensors all lie where `like` does.
class Checker {
 public:
  Checker(const char* op, const Tensor& like) : op_(op), like_(like) {}

  // The parts are joined into the message.
  template <class... Parts>
  void require(bool condition, const Parts&... parts) const {
    if (condition) [[likely]]
      return;
    std::ostringstream message;
    message << op_ << ": ";
    (message << ... << parts);
    throw std::invalid_argument(message.str());
  }

  // A tensor of this dtype and shape; -1 stands for any size.
  template <class Name>
  void tensor(const Name& name, const Tensor& tensor, ScalarType dtype, Shape shape) const {
    require(lies_with(tensor, like_), name, " must be ", kWhere);
    require(tensor.scalar_type() == dtype, name, " must be ", dtype_name(dtype), ", got ",
            dtype_name(tensor.scalar_type()));
    bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
    int64_t d = 0;
    for (const int64_t size : shape) {
      if (fits && size >= 0 && tensor.size(d) != size) fits = false;
      ++d;
    }
    if (fits) return;
    require(false, name, " must have shape ", ShapeText(shape), ", got ", ShapeText(tensor));
  }

  // A tensor of float32 or float64, the dtypes that kernels exist for.
  void floating(const char* name, const Tensor& tensor, Shape shape) const {
    const ScalarType dtype = tensor.scalar_type();
    require(dtype == ScalarType::Float || dtype == ScalarType::Double, name,
            " must be float32 or float64, got ", dtype_name(dtype));
    this->tensor(name, tensor, dtype, shape);
  }

  // The number of an update or a batch.
  void counter(const char* name, int64_t value) const {
    require(value >= 0 && value <= int64_t{UINT32_MAX}, name, " must be in 0..2^32-1, got ", value);
  }

  // The same, in an int64 scalar on the device, which is not read where that would wait for it.
  void counter(const char* name, const Tensor& value) const {
    tensor(name, value, ScalarType::Long, {});
    if constexpr (kReadsValues) counter(name, *read_pointer<int64_t>(value));
  }

  // Numbers of rows that CUDA kernels count in 32 bits.
  void rows(std::initializer_list<int64_t> counts) const {
    for (const int64_t count : counts) {
      require(kReadsValues || count < int64_t{INT32_MAX} / 2, "too many rows");
    }
  }

 private:
  const char* op_;
  const Tensor& like_;
};

}  // namespace mclrec
