// What dropout_bits.inl needs outside the namespace of an instruction set: the description of a
// kernel call's dropout.
#pragma once

#include <cstdint>

#include "../shared/philox.h"

namespace mclrec {

// Dropout of one probability in one update; the sites differ in their streams.
struct Dropout {
  double p;  // 0 <= p < 1
  uint64_t seed;
  uint32_t update;

  bool active() const { return p > 0.0; }
  // One Philox block ("draw") decides this many consecutive elements ...
  int64_t elements_per_draw() const { return p == 0.5 ? 128 : 8; }
  // ... and becomes this many bytes, one bit an element, lowest bit first.
  int64_t bytes_per_draw() const { return p == 0.5 ? 16 : 1; }
  template <class T>
  T scale() const {
    return T(1) / static_cast<T>(1.0 - p);
  }
};

}  // namespace mclrec
