// Launchers of causal attention over packed sequences; torch-free.
#pragma once

#include <cstdint>

#include "encode_types.h"

namespace mclrec::cuda {

inline constexpr int kWidestHead = 256;  // numbers a head may have

// Queries, keys and values of head h lie at h * width of rows `stride` numbers apart.
template <typename Real>
struct Attention {
  const std::int32_t* offsets;  // [S + 1]
  std::int64_t capacity;        // T as allocated
  std::int64_t sequences;       // S
  int heads, width;             // H, d
  const Real* query;            // [T, H, d]
  const Real* key;
  const Real* value;
  std::int64_t stride;
  const bool* visible;        // [T], or null
  const std::int32_t* items;  // [T]: a token of item 0 is invisible; or null
  Dropout dropout;            // of the probabilities
  Real* out;                  // [T, H, d] contiguous
  Real* lse;                  // [T, H] log-sum-exp of the scaled scores; -inf without visible key
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

template <typename Real>
void packed_attention(const Attention<Real>& job, void* stream);
template <typename Real>
void packed_attention_backward(const AttentionBackward<Real>& job, void* stream);

}  // namespace mclrec::cuda
