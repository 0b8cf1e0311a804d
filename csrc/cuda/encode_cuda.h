// The packed encoder on CUDA as a fixed sequence of launches, forward and backward; torch-free.
#pragma once

#include <cstdint>

#include "encode_types.h"

namespace mclrec::cuda {

// Weights as `encode` takes them: item_embedding [V, D], position_embedding [P, D], the embedding's
// LayerNorm (weight, bias), then 16 a layer.
inline constexpr int kEmbeddingWeights = 4;
inline constexpr int kLayerWeights = 16;

struct EncodeShape {
  Packed packed;
  std::int64_t classes, places;  // V, P
  int depth, inner;              // D, F
  int heads, layers;
  double hidden_dropout, attention_dropout, eps;
  std::uint64_t seed;
  std::uint32_t update;
  const std::int64_t* counter;  // the update's number on the device, or null: see Dropout
  Precision precision;
};

// Numbers of the workspace that encode fills and encode_backward reads, and of the latter's
// scratch.
template <typename Real>
std::int64_t encode_workspace(const EncodeShape& shape);
template <typename Real>
std::int64_t encode_backward_scratch(const EncodeShape& shape);

template <typename Real>
struct Encode {
  EncodeShape shape;
  const Real* const* weights;  // host array of device pointers
  Real* workspace;
  Real* h;  // [S, D]
};

template <typename Real>
struct EncodeBackward {
  EncodeShape shape;
  const Real* const* weights;
  Real* workspace;     // as encode left it
  const Real* grad_h;  // [S, D]
  Real* scratch;
  const std::int32_t* sorted_keys;  // [T] and
  const std::int64_t* order;        // [T], see item_gradient; both null up to kItemScanTokens
  Real* const* grads;               // one a weight; that of item_embedding zeroed by the caller
};

template <typename Real>
void encode(const Encode<Real>& job, void* stream);
template <typename Real>
void encode_backward(const EncodeBackward<Real>& job, void* stream);

}  // namespace mclrec::cuda
