// Launchers of the encoder's LayerNorm kernels; torch-free.
#pragma once

#include <cstdint>

#include "encode_types.h"

namespace mclrec::cuda {

inline constexpr int kWidestNorm = 512;  // numbers a row may have

// What a LayerNorm leaves for its backward pass.
template <typename Real>
struct Normalised {
  Real* unit;     // [R, D] (x - mean) / standard deviation
  Real* inverse;  // [R] 1 / standard deviation
};

// x = dropout(LayerNorm(item + position)) for every token; also finds the token's sequence.
template <typename Real>
struct Embed {
  Packed packed;
  const Real* item_embedding;      // [V, D]
  const Real* position_embedding;  // [P, D]
  std::int64_t classes, places;    // V, P: indices outside are clamped
  const Real* weight;              // [D]
  const Real* bias;                // [D]
  int hidden;
  double eps;
  Dropout dropout;
  Real* out;  // [T, D]
  Normalised<Real> normalised;
  std::int32_t* sequence;  // [T]
};

// out = LayerNorm(x + dropout(y)), y the output of a sublayer.
template <typename Real>
struct ResidualNorm {
  Rows rows;
  int hidden;
  const Real* x;  // [R, D]
  const Real* y;  // [R, D]
  const Real* weight;
  const Real* bias;
  double eps;
  Dropout dropout;
  Real* out;  // [R, D]
  Normalised<Real> normalised;
};

// Backward of both. grad_x is the gradient of x + dropout(y) (or of item + position) and grad_y
// that of y; weight and bias gradients are partial sums over blocks of rows_per_split rows.
template <typename Real>
struct NormBackward {
  Rows rows;
  int hidden;
  const Real* grad;  // [R, D] gradient of the output
  const Real* weight;
  Normalised<Real> normalised;
  Dropout dropout;
  bool dropout_after;  // the embedding drops after its LayerNorm, a sublayer before it
  Real* grad_x;        // [R, D]
  Real* grad_y;        // [R, D], or null
  int rows_per_split;
  Real* partial;  // [splits, 2, D]: weight, bias
};

template <typename Real>
void embed(const Embed<Real>& job, void* stream);
template <typename Real>
void residual_norm(const ResidualNorm<Real>& job, void* stream);
template <typename Real>
void norm_backward(const NormBackward<Real>& job, void* stream);

}  // namespace mclrec::cuda
