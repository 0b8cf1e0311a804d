// Hands out parts of one allocation. Host code only; torch-free and CUDA-free.
#pragma once

#include <cstdint>

#include "../shared/rounding.h"
#include "context.h"

namespace mclrec::cuda {

// Each part begins on a boundary of four numbers; with a null base it only counts.
template <typename Number>
class Carver {
 public:
  explicit Carver(Number* base) : base_(base) {}
  Number* take(std::int64_t count) {
    Number* part = base_ == nullptr ? nullptr : base_ + used_;
    used_ += round_up(count, 4);
    return part;
  }
  std::int64_t used() const { return used_; }

 private:
  Number* base_;
  std::int64_t used_ = 0;
};

// parts(carver), with the parts it takes in scratch of the call.
template <typename Number, typename Parts>
auto carve_from(Context& context, const Parts& parts) {
  Carver<Number> count(nullptr);
  parts(count);
  Carver<Number> carver(context.scratch<Number>(count.used()));
  return parts(carver);
}

}  // namespace mclrec::cuda
