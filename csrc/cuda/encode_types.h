// Small structs the encoder's launchers share; torch-free and CUDA-free.
#pragma once

#include <cstdint>

#include "../shared/host_device.h"
#include "../shared/philox.h"
#include "dense_cuda.h"

namespace mclrec::cuda {

// Values of Dropout::threshold besides those of dropout_threshold(p), which are below both.
inline constexpr std::uint32_t kKeepAll = 0x20000u;  // p = 0
inline constexpr std::uint32_t kHalf = 0x10001u;     // p = 1/2: one bit an element

// One dropout site of one update.
struct Dropout {
  std::uint64_t seed;
  std::uint32_t stream, update, threshold;
  double scale;  // 1 / (1 - p)
  // Where the update's number lies on the device; null once it was read into `update`. A CUDA graph
  // repeats the arguments of its launches, so what must differ from replay to replay is in memory.
  const std::int64_t* counter = nullptr;
  const std::int32_t* rows = nullptr;  // see EncodeOptions

  MCLREC_HD std::uint32_t number() const {
    return counter == nullptr ? update : static_cast<std::uint32_t>(*counter);
  }
  // The same site with the number read, for many draws.
  MCLREC_HD Dropout read() const {
    return {seed, stream, number(), threshold, scale, nullptr, rows};
  }
  // What the draws of a sequence are addressed by.
  MCLREC_HD std::uint32_t address(std::uint32_t sequence) const {
    return rows == nullptr ? sequence : static_cast<std::uint32_t>(rows[sequence]);
  }
};

inline Dropout dropout_site(double p, std::uint64_t seed, const std::int64_t* counter, int layer,
                            DropoutSite site, const std::int32_t* rows = nullptr) {
  return {seed,
          philox_stream(kStreamDropout, static_cast<std::uint32_t>(layer), site),
          0,
          p == 0.0   ? kKeepAll
          : p == 0.5 ? kHalf
                     : dropout_threshold(p),
          1.0 / (1.0 - p),
          counter,
          rows};
}

// A packed batch on the device. Offsets are clamped to the capacity where they are read.
struct Packed {
  const std::int32_t* items;      // [T]
  const std::int32_t* positions;  // [T]
  const std::int32_t* offsets;    // [S + 1]
  std::int64_t capacity;          // T as allocated; offsets[S] tokens are real
  std::int64_t sequences;         // S

  MCLREC_HD RowCount tokens() const { return {capacity, offsets + sequences}; }
};

// Which rows a kernel works on: every token, or the last token of every sequence.
struct Rows {
  RowCount count;
  const std::int32_t* offsets;   // [S + 1]
  const std::int32_t* sequence;  // [T] the token's sequence; null: row s is sequence s's last token
  std::int64_t capacity;         // tokens
};

}  // namespace mclrec::cuda
