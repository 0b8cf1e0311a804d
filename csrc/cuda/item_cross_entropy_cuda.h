// Launchers of the cross-entropy over the catalogue: loss and gradients; torch-free.
#pragma once

#include <cstdint>

#include "precision.h"

namespace mclrec::cuda {

template <typename Real>
struct ItemCrossEntropy {
  const Real* h;                // [B, D]
  const Real* items;            // [V, D]
  const std::int64_t* targets;  // [B]; one outside 0 .. V-1 makes the loss NaN
  std::int64_t batch, classes;  // B, V
  int depth;                    // D
  Precision precision;
  Real* scratch;     // [item_cross_entropy_scratch()]
  Real* loss;        // scalar: mean over B
  Real* grad_h;      // [B, D] d loss / d h, or null
  Real* grad_items;  // [V, D] d loss / d items, or null
};

// Numbers of scratch for a call with these sizes.
std::int64_t item_cross_entropy_scratch(std::int64_t batch, std::int64_t classes, int depth,
                                        bool grad_h);

template <typename Real>
void item_cross_entropy(const ItemCrossEntropy<Real>& job, void* stream);

}  // namespace mclrec::cuda
