// Counter-based random numbers: Philox-4x32-10 (Salmon et al., SC 2011) and the layout of its
// counter, {draw, row, stream, update}, which mclrec_fast/ops/philox.py repeats in Python.
// Scalar and stateless; the same bits on every backend and for every thread count.
#pragma once

#include <cstdint>

#include "host_device.h"

namespace mclrec {

struct PhiloxBlock {
  uint32_t word[4];
};

MCLREC_HD void philox_multiply(uint32_t a, uint32_t b, uint32_t* high, uint32_t* low) {
  const uint64_t product = static_cast<uint64_t>(a) * b;
  *high = static_cast<uint32_t>(product >> 32);
  *low = static_cast<uint32_t>(product);
}

// One block of four 32-bit words.
MCLREC_HD PhiloxBlock philox(uint64_t seed, uint32_t draw, uint32_t row, uint32_t stream,
                             uint32_t update) {
  uint32_t c0 = draw, c1 = row, c2 = stream, c3 = update;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    uint32_t high0, low0, high1, low1;
    philox_multiply(0xD2511F53u, c0, &high0, &low0);
    philox_multiply(0xCD9E8D57u, c2, &high1, &low1);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return PhiloxBlock{{c0, c1, c2, c3}};
}

enum StreamKind : uint32_t { kStreamShuffle = 1, kStreamAugmentation = 2, kStreamDropout = 3 };

enum AugmentationSite : uint32_t { kSiteChoices = 0, kSiteKeysFirst = 1, kSiteKeysSecond = 2 };

enum DropoutSite : uint32_t {
  kSiteEmbedding = 0,
  kSiteAttention = 1,
  kSiteAttentionOutput = 2,
  kSiteFeedForward = 3
};

MCLREC_HD uint32_t philox_stream(uint32_t kind, uint32_t layer, uint32_t site) {
  return (kind << 16) | (layer << 8) | site;
}

// Uniform integer in [0, bound) from one word; the bias is below bound / 2^32.
MCLREC_HD uint32_t uniform_below(uint32_t word, uint32_t bound) {
  return static_cast<uint32_t>((static_cast<uint64_t>(word) * bound) >> 32);
}

// Dropout draws 16 bits an element and keeps it iff the draw is below this threshold; at p = 1/2
// one bit an element decides instead (kept iff it is set).
MCLREC_HD uint32_t dropout_threshold(double p) {
  return static_cast<uint32_t>((1.0 - p) * 65536.0 + 0.5);
}

}  // namespace mclrec
