// Launchers of the encoder's last layer, where one token a sequence asks, and of the gradients of
// the embedding tables; torch-free.
#pragma once

#include <cstdint>

#include "encode_types.h"

namespace mclrec::cuda {

// Attention of each sequence's last token over all tokens, with keys and values absorbed: scores
// are u_h . x_j, and the result is the mixture y_h = sum_j p_j x_j and the mass sum_j p_j.
template <typename Real>
struct LastToken {
  Packed packed;
  int heads, hidden;  // H, D
  const Real* x;      // [T, D]
  const Real* u;      // [S, H, D] absorbed queries
  Dropout dropout;
  Real* scores;   // [T, H] scaled scores
  Real* lse;      // [S, H]
  Real* mixture;  // [S, H, D]
  Real* mass;     // [S, H]
};

template <typename Real>
struct LastTokenBackward {
  LastToken<Real> forward;
  const Real* grad_mixture;  // [S, H, D]
  const Real* grad_context;  // [S, D], for the gradient of the mass
  const Real* value_bias;    // [D]
  Real* grad_scores;         // [T, H] scratch
  Real* dropped;             // [T, H] scratch: dropped probabilities
  Real* grad_u;              // [S, H, D]
  Real* grad_x;              // [T, D], overwritten
};

template <typename Real>
void last_token_attention(const LastToken<Real>& job, void* stream);
template <typename Real>
void last_token_attention_backward(const LastTokenBackward<Real>& job, void* stream);

// rows[s] = x[last token of s], and x[last token of s] += rows[s]. x [T, D], rows [S, D].
template <typename Real>
void gather_last(const Packed& packed, int hidden, const Real* x, Real* rows, void* stream);
template <typename Real>
void add_to_last(const Packed& packed, int hidden, const Real* rows, Real* x, void* stream);

// Above this many tokens the tokens are sorted by item first; see item_gradient.
inline constexpr std::int64_t kItemScanTokens =
#ifdef MCLREC_CUDA_EMULATION
    64;  // small shapes must meet both ways
#else
    65536;
#endif

// keys[t] = the token's item, 0 for masked tokens and unused capacity; to be sorted, stably.
void token_keys(const Packed& packed, std::int64_t classes, std::int32_t* keys, void* stream);

// grad_table[item] = sum over its tokens of grad_x, in the order of the tokens; rows of items that
// do not occur are not touched, nor is row 0. Without `order`, each item's first token looks for
// the others; with it (tokens sorted by key, stably, and the sorted keys) it finds them beside it.
template <typename Real>
void item_gradient(const Packed& packed, int hidden, std::int64_t classes, const Real* grad_x,
                   const std::int32_t* sorted_keys, const std::int64_t* order, Real* grad_table,
                   void* stream);

// grad_table[p] = sum over tokens at position p of grad_x; all P rows are written.
template <typename Real>
void position_gradient(const Packed& packed, int hidden, std::int64_t places, const Real* grad_x,
                       Real* grad_table, void* stream);

}  // namespace mclrec::cuda
