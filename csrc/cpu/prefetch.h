// Memory that will be wanted soon, fetched into the second-level cache a little at a time beside
// arithmetic that needs no memory. Left to its first use it is asked for all at once, and the
// arithmetic waits: on a machine shared with others that cost 4 to 5 % of a training batch.
// A fetch is a hint: it changes no result and may miss.
#pragma once

#include <algorithm>
#include <cstdint>

#include "simd.h"

namespace mclrec {

constexpr int64_t kCacheLine = 64;  // bytes

MCLREC_INLINE void prefetch(const void* line) { __builtin_prefetch(line, 0, 2); }

// `lines` cache lines of each of `rows` rows, `stride` elements apart.
template <int lines, class T>
MCLREC_INLINE void prefetch_rows(const T* from, int64_t stride, int rows) {
  constexpr int64_t kLine = kCacheLine / static_cast<int64_t>(sizeof(T));
  for (int r = 0; r < rows; ++r) {
    for (int line = 0; line < lines; ++line) prefetch(from + r * stride + line * kLine);
  }
}

// One piece of memory in equal shares, for a loop of which every turn takes one.
class PrefetchShares {
 public:
  template <class T>
  PrefetchShares(const T* from, int64_t count, int64_t shares)
      : next_(reinterpret_cast<const char*>(from)),
        end_(next_ + count * static_cast<int64_t>(sizeof(T))),
        share_((count * static_cast<int64_t>(sizeof(T)) / kCacheLine / shares + 1) * kCacheLine) {}

  MCLREC_INLINE void next() {
    for (const char* end = std::min(next_ + share_, end_); next_ < end; next_ += kCacheLine) {
      prefetch(next_);
    }
  }

 private:
  const char* next_;
  const char* end_;
  int64_t share_;
};

}  // namespace mclrec
