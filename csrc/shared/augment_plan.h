// Stochastic augmentation, the decisions: which two operators a history gets, how much of it they
// touch and where, and the random keys that order its positions. Shared by the CPU and the CUDA
// kernel; moving the items is theirs. Source: Qin et al., SIGIR 2023, section 4.1, with the
// rounding of the authors' code (float32 products, truncated).
#pragma once

#include <cstdint>

#include "host_device.h"
#include "philox.h"

namespace mclrec {

enum AugmentOperator : int32_t { kCrop = 0, kMask = 1, kReorder = 2, kKeep = 3 };

struct AugmentRatios {
  float kept;     // float32(1 - crop_ratio), the difference taken in double
  float mask;     // share of positions that become id 0
  float reorder;  // share of positions inside the permuted window
};

// What one view does with a history of n items:
//   kCrop     takes `count` items from `start`, positions restart at 0;
//   kMask     sets the `count` positions with the smallest (key, position) to id 0;
//   kReorder  permutes the window of `count` positions from `start`: window position i gets the
//             window item whose (key, index) has rank i;
//   kKeep     is the history itself (n = 1).
struct ViewPlan {
  int32_t op;
  int32_t start;
  int32_t count;
};

// Tokens of the view before masked tokens leave it.
MCLREC_HD int32_t view_length(const ViewPlan& plan, int32_t n) {
  return plan.op == kCrop ? plan.count : n;
}

MCLREC_HD ViewPlan plan_view(int32_t op, uint32_t start_word, int32_t n,
                             const AugmentRatios& ratios) {
  const float length = static_cast<float>(n);
  ViewPlan plan = {op, 0, 0};
  if (op == kCrop) {
    plan.count = static_cast<int32_t>(length * ratios.kept);
    if (plan.count < 1) plan.count = 1;
  } else {
    plan.count = static_cast<int32_t>(length * (op == kMask ? ratios.mask : ratios.reorder));
  }
  if (op != kMask) {
    plan.start =
        static_cast<int32_t>(uniform_below(start_word, static_cast<uint32_t>(n - plan.count + 1)));
  }
  return plan;
}

// Both views of the history in row `row` of batch number `batch`, n >= 1 items.
MCLREC_HD void plan_views(uint64_t seed, uint32_t row, uint32_t batch, int32_t n,
                          const AugmentRatios& ratios, ViewPlan plans[2]) {
  if (n == 1) {
    plans[0] = plans[1] = ViewPlan{kKeep, 0, 0};
    return;
  }
  const PhiloxBlock choice =
      philox(seed, 0, row, philox_stream(kStreamAugmentation, 0, kSiteChoices), batch);
  const uint32_t pair = uniform_below(choice.word[0], 6);  // ordered, different operators
  const uint32_t first = pair / 2;
  uint32_t second = pair % 2;
  second += second >= first;
  plans[0] = plan_view(static_cast<int32_t>(first), choice.word[1], n, ratios);
  plans[1] = plan_view(static_cast<int32_t>(second), choice.word[2], n, ratios);
}

// Keys 4 * draw .. 4 * draw + 3 of view 0 or 1: mask and reorder order positions by (key, index).
MCLREC_HD PhiloxBlock view_keys(uint64_t seed, uint32_t draw, uint32_t row, uint32_t batch,
                                int view) {
  const uint32_t site = view == 0 ? kSiteKeysFirst : kSiteKeysSecond;
  return philox(seed, draw, row, philox_stream(kStreamAugmentation, 0, site), batch);
}

}  // namespace mclrec
