// The packed encoder on the CPU: SASRec's post-norm blocks over sequences laid end to end, one call
// forward and one backward (Kang & McAuley 2018). Interface only; raw pointers, no torch.
//
// FLOP, with T tokens, S sequences of n tokens, K = layers - 1 full layers, inner size F:
//   a full layer, per token:    2 (4 D^2 + 2 D F) + 2 n D
//   the last layer, per row:    2 (4 D^2 + 2 D F) + 4 n H D   (its keys and values are absorbed)
// and twice that backward. Bytes kept for the backward pass, per token and full layer:
// sizeof(T) (3 D + 2 D + 2 F) + 1/4 D, written once and read once.
#pragma once

#include <cstdint>

#include "dropout_bits.h"

namespace mclrec {

struct EncodeSizes {
  int64_t sequences;  // S
  int64_t tokens;     // T, offsets[S]
  int64_t capacity;   // room in items and positions; decides the layout of `saved`
  int64_t items;      // V
  int64_t positions;  // P
  int64_t hidden;     // D
  int64_t inner;      // F
  int64_t heads;      // H, a divisor of D
  int64_t layers;     // >= 1
};

struct EncodeBatch {
  const int32_t* items;      // [T], in [0, V)
  const int32_t* positions;  // [T], in [0, P)
  const int32_t* offsets;    // [S + 1], strictly ascending from 0
};

// Weights (or their gradients) in the order of the op: item and position embedding, their norm,
// then 16 per layer, matrices [out, in], all contiguous.
enum EncodeWeight : int {
  kItemEmbedding,      // [V, D]
  kPositionEmbedding,  // [P, D]
  kEmbeddingNorm,      // [D]
  kEmbeddingNormBias   // [D]
};
constexpr int kFirstLayerWeight = 4;
enum EncodeLayerWeight : int {
  kQuery,      // [D, D]
  kQueryBias,  // [D]
  kKey,        // [D, D]
  kKeyBias,    // [D]
  kValue,      // [D, D]
  kValueBias,  // [D]
  kOutput,     // [D, D]
  kOutputBias,
  kAttentionNorm,
  kAttentionNormBias,
  kInner,      // [F, D]
  kInnerBias,  // [F]
  kOuter,      // [D, F]
  kOuterBias,
  kFeedForwardNorm,
  kFeedForwardNormBias
};
constexpr int kLayerWeights = 16;

struct EncodeDropout {
  Dropout hidden;
  Dropout attention;
};

// Elements of `saved` for the instruction set in use.
int64_t encode_saved_size(const EncodeSizes& sizes);

// h [S, D]; saved [encode_saved_size] or null when no backward pass follows.
template <class T>
void encode_forward(const EncodeSizes& sizes, const EncodeBatch& batch, const T* const* weights,
                    const EncodeDropout& dropout, T eps, T* h, T* saved);

// gradients: one array per weight, shaped like it, written in full; the item embedding's is added
// to what its array holds where `add_items`. It is that of its use as tokens; row 0 gets none.
template <class T>
void encode_backward(const EncodeSizes& sizes, const EncodeBatch& batch, const T* const* weights,
                     const EncodeDropout& dropout, T eps, const T* grad_h, const T* saved,
                     T* const* gradients, bool add_items);

}  // namespace mclrec
