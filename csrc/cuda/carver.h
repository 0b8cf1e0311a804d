// Hands out parts of one allocation. Host code only; torch-free and CUDA-free.
#pragma once

#include <cstdint>

namespace mclrec::cuda {

// Each part begins on a boundary of four numbers; with a null base it only counts.
template <typename Number>
class Carver {
 public:
  explicit Carver(Number* base) : base_(base) {}
  Number* take(std::int64_t count) {
    Number* part = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (count + 3) / 4 * 4;
    return part;
  }
  std::int64_t used() const { return used_; }

 private:
  Number* base_;
  std::int64_t used_ = 0;
};

}  // namespace mclrec::cuda
