// What packed_attention is given, on the CPU and on CUDA.
#pragma once

#include <cstdint>

namespace mclrec {

// Arrays of tokens: [capacity][heads][size].
template <class T>
struct PackedAttentionParams {
  const T* query;
  const T* key;
  const T* value;
  const int32_t* offsets;  // [sequences + 1], ascending from 0, at most capacity
  const uint8_t* visible;  // [capacity], 0 = never a key; null = all are keys
  int64_t sequences;
  int64_t capacity;
  int64_t heads;
  int64_t size;
  // The dropout of the probabilities, with the same draws on every device (philox.h).
  double p;  // 0 <= p < 1
  uint64_t seed;
  const int64_t* update;  // one number, read where the kernels run; its low 32 bits count
  uint32_t layer;
};

}  // namespace mclrec
