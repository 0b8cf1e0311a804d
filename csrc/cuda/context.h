// What a launcher gets besides its parameters: the stream, the precision of products, and memory
// for the time of the call. Torch-free; the glue implements it over torch's allocator.
#pragma once

#include <cstdint>

#include "precision.h"

namespace mclrec::cuda {

// Keys in order, and where each was; null: not sorted.
struct SortedKeys {
  const std::int32_t* keys;
  const std::int64_t* order;
};

class Context {
 public:
  Context(void* stream, Precision precision) : stream_(stream), precision_(precision) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  void* stream() const { return stream_; }
  Precision precision() const { return precision_; }

  // The keys [count] in ascending order, equal ones in theirs.
  virtual SortedKeys sort(const std::int32_t* keys, std::int64_t count) = 0;

  // Uninitialised device memory until the call's launches have run; null for no numbers.
  template <typename Number>
  Number* scratch(std::int64_t count) {
    return static_cast<Number*>(bytes(count * static_cast<std::int64_t>(sizeof(Number))));
  }

 protected:
  ~Context() = default;
  virtual void* bytes(std::int64_t count) = 0;

 private:
  void* stream_;
  Precision precision_;
};

}  // namespace mclrec::cuda
