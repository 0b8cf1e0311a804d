// Launchers of causal attention over packed sequences; torch-free.
#pragma once

#include <cstdint>

#include "../shared/packed_attention.h"
#include "context.h"
#include "encode_types.h"

namespace mclrec::cuda {

inline constexpr int kWidestHead = 256;  // numbers a head may have

// Queries, keys and values of head h lie at h * size of rows `stride` numbers apart.
template <typename Real>
struct Attention {
  const std::int32_t* offsets;  // [S + 1]
  std::int64_t capacity;        // T as allocated
  std::int64_t sequences;       // S
  int heads, size;              // H, d
  const Real* query;            // [T, H, d]
  const Real* key;
  const Real* value;
  std::int64_t stride;
  const std::uint8_t* visible;  // [T], or null
  const std::int32_t* items;    // [T]: a token of item 0 is invisible; or null
  Dropout dropout;              // of the probabilities
  Real* out;                    // [T, H, d] contiguous
  Real* lse;                    // [T, H] log-sum-exp of the scaled scores; -inf without visible key
};

template <typename Real>
struct AttentionBackward {
  Attention<Real> forward;
  const Real* grad_out;  // [T, H, d] contiguous
  Real* delta;           // [T, H] scratch
  Real* grad_query;  // as query, rows `grad_stride` apart; tokens outside sequences are not touched
  Real* grad_key;
  Real* grad_value;
  std::int64_t grad_stride;
};

// The operator. context: tokens outside the sequences are not touched, nor are their gradients.
// Only the inputs are kept: backward makes the context and the log-sum-exps again.
template <typename Real>
void packed_attention_forward(const PackedAttentionParams<Real>& params, Real* out,
                              Context& context);
template <typename Real>
void packed_attention_backward(const PackedAttentionParams<Real>& params, const Real* grad_out,
                               Real* const (&grads)[3], Context& context);

// A part of the encoder.
template <typename Real>
void packed_attention(const Attention<Real>& job, void* stream);
template <typename Real>
void packed_attention_backward(const AttentionBackward<Real>& job, void* stream);

}  // namespace mclrec::cuda
