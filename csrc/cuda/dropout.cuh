// Dropout on the device: which elements of a site are kept, by counters (csrc/shared/philox.h), so
// that forward and backward draw the same bits and nothing is stored.
#pragma once

#include "../shared/philox.h"
#include "encode_types.h"
#include "portable.cuh"

namespace mclrec::cuda {

// Whether element `e` of a sequence is kept.
__device__ __forceinline__ bool keeps(const Dropout& dropout, std::uint32_t sequence,
                                      std::uint64_t e) {
  if (dropout.threshold == kKeepAll) return true;
  const std::uint32_t row = dropout.address(sequence);
  if (dropout.threshold == kHalf) {
    const PhiloxBlock block = philox(dropout.seed, static_cast<std::uint32_t>(e / 128), row,
                                     dropout.stream, dropout.number());
    const int word = static_cast<int>(e % 128) / 32;
    const std::uint32_t bits = word == 0   ? block.word[0]
                               : word == 1 ? block.word[1]
                               : word == 2 ? block.word[2]
                                           : block.word[3];
    return bits >> (e % 32) & 1u;
  }
  const PhiloxBlock block = philox(dropout.seed, static_cast<std::uint32_t>(e / 8), row,
                                   dropout.stream, dropout.number());
  const int word = static_cast<int>(e % 8) / 2;
  const std::uint32_t bits = word == 0   ? block.word[0]
                             : word == 1 ? block.word[1]
                             : word == 2 ? block.word[2]
                                         : block.word[3];
  return (bits >> 16 * (e % 2) & 0xFFFFu) < dropout.threshold;
}

// x[i] = 0 where element e + i is dropped and scale * x[i] where it is kept, i = 0..3. One Philox
// block serves all four when they start on a multiple of 4.
template <typename Real>
__device__ __forceinline__ Four<Real> drop_four(const Dropout& dropout, std::uint32_t sequence,
                                                std::uint64_t e, Real scale, Four<Real> x) {
  if (dropout.threshold == kKeepAll) return x;
  const std::uint32_t row = dropout.address(sequence);
  unsigned kept = 0;
  if (e % 4 != 0) {
    for (int i = 0; i < 4; ++i) {
      kept |= static_cast<unsigned>(keeps(dropout, sequence, e + static_cast<unsigned>(i))) << i;
    }
  } else if (dropout.threshold == kHalf) {
    const PhiloxBlock block = philox(dropout.seed, static_cast<std::uint32_t>(e / 128), row,
                                     dropout.stream, dropout.number());
    const int word = static_cast<int>(e % 128) / 32;
    const std::uint32_t bits = word == 0   ? block.word[0]
                               : word == 1 ? block.word[1]
                               : word == 2 ? block.word[2]
                                           : block.word[3];
    kept = bits >> (e % 32) & 15u;
  } else {
    const PhiloxBlock block = philox(dropout.seed, static_cast<std::uint32_t>(e / 8), row,
                                     dropout.stream, dropout.number());
    const std::uint32_t low = e % 8 == 0 ? block.word[0] : block.word[2];
    const std::uint32_t high = e % 8 == 0 ? block.word[1] : block.word[3];
    kept = static_cast<unsigned>((low & 0xFFFFu) < dropout.threshold) |
           static_cast<unsigned>((low >> 16) < dropout.threshold) << 1 |
           static_cast<unsigned>((high & 0xFFFFu) < dropout.threshold) << 2 |
           static_cast<unsigned>((high >> 16) < dropout.threshold) << 3;
  }
  for (int i = 0; i < 4; ++i) x.v[i] = kept >> i & 1u ? scale * x.v[i] : Real(0);
  return x;
}

}  // namespace mclrec::cuda
