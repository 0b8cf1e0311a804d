// What encode is given, on the CPU and on CUDA: sizes, a packed batch, options, and the one list of
// the weights' names and shapes, which mclrec_fast/ops/encode_weights.py repeats in Python (a test
// compares the two).
#pragma once

#include <cstdint>
#include <iterator>

namespace mclrec {

struct EncodeSizes {
  int64_t sequences;  // S
  int64_t tokens;     // T, offsets[S]; the capacity where reading it would wait for a device
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

struct EncodeOptions {
  double hidden_dropout;     // 0 <= p < 1
  double attention_dropout;  // 0 <= p < 1
  double eps;
  uint64_t seed;
  const int64_t* update;  // one number, its low 32 bits count; read where the kernels run
  // [S] the row of each sequence in the batch that this one is a part of, which its draws are
  // addressed by; null: its own row.
  const int32_t* rows = nullptr;
};

template <class T>
struct EncodeParams {
  EncodeSizes sizes;
  EncodeBatch batch;
  const T* const* weights;  // pointers in host memory, in the order below
  EncodeOptions options;
};

// The weights (or their gradients) in the order of the op: WEIGHT(enumerator, name, shape); a shape
// is the letters of its dimensions, matrices are [out, in], and all are contiguous. First the
// embedding's, then those of each layer.
#define MCLREC_EMBEDDING_WEIGHTS(WEIGHT)                 \
  WEIGHT(kItemEmbedding, "item_embedding", "VD")         \
  WEIGHT(kPositionEmbedding, "position_embedding", "PD") \
  WEIGHT(kEmbeddingNorm, "embedding_norm", "D")          \
  WEIGHT(kEmbeddingNormBias, "embedding_norm_bias", "D")

#define MCLREC_LAYER_WEIGHTS(WEIGHT)                     \
  WEIGHT(kQuery, "query", "DD")                          \
  WEIGHT(kQueryBias, "query_bias", "D")                  \
  WEIGHT(kKey, "key", "DD")                              \
  WEIGHT(kKeyBias, "key_bias", "D")                      \
  WEIGHT(kValue, "value", "DD")                          \
  WEIGHT(kValueBias, "value_bias", "D")                  \
  WEIGHT(kOutput, "output", "DD")                        \
  WEIGHT(kOutputBias, "output_bias", "D")                \
  WEIGHT(kAttentionNorm, "attention_norm", "D")          \
  WEIGHT(kAttentionNormBias, "attention_norm_bias", "D") \
  WEIGHT(kInner, "inner", "FD")                          \
  WEIGHT(kInnerBias, "inner_bias", "F")                  \
  WEIGHT(kOuter, "outer", "DF")                          \
  WEIGHT(kOuterBias, "outer_bias", "D")                  \
  WEIGHT(kFeedForwardNorm, "feed_forward_norm", "D")     \
  WEIGHT(kFeedForwardNormBias, "feed_forward_norm_bias", "D")

#define MCLREC_ENUMERATOR(enumerator, name, shape) enumerator,
enum EncodeWeight : int { MCLREC_EMBEDDING_WEIGHTS(MCLREC_ENUMERATOR) };
enum EncodeLayerWeight : int { MCLREC_LAYER_WEIGHTS(MCLREC_ENUMERATOR) };
#undef MCLREC_ENUMERATOR

struct WeightOfEncode {
  const char* name;
  const char* shape;
};

#define MCLREC_NAME_AND_SHAPE(enumerator, name, shape) {name, shape},
inline constexpr WeightOfEncode kEmbeddingWeightTable[] = {
    MCLREC_EMBEDDING_WEIGHTS(MCLREC_NAME_AND_SHAPE)};
inline constexpr WeightOfEncode kLayerWeightTable[] = {MCLREC_LAYER_WEIGHTS(MCLREC_NAME_AND_SHAPE)};
#undef MCLREC_NAME_AND_SHAPE

inline constexpr int kFirstLayerWeight = static_cast<int>(std::size(kEmbeddingWeightTable));
inline constexpr int kLayerWeights = static_cast<int>(std::size(kLayerWeightTable));

}  // namespace mclrec
