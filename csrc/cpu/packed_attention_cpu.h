// Causal attention over packed sequences on the CPU, forward and backward. Interface only; raw
// pointers, no torch. A sequence of n tokens costs 2 n^2 d FLOP a head forward and 6 n^2 d backward
// (and 2 n^2 d to compute the probabilities again, which nothing keeps), half of it masked.
#pragma once

#include <cstdint>

#include "dropout_bits.h"

namespace mclrec {

// Arrays of tokens: [capacity][heads][size].
template <class T>
struct PackedAttention {
  const T* query;
  const T* key;
  const T* value;
  const int32_t* offsets;  // [sequences + 1], ascending from 0, at most capacity
  const uint8_t* visible;  // [capacity], 0 = never a key; null = all are keys
  int64_t sequences;
  int64_t capacity;
  int64_t heads;
  int64_t size;
  Dropout dropout;
  uint32_t layer;
};

// context: tokens behind the last sequence get 0.
template <class T>
void packed_attention_forward(const PackedAttention<T>& attention, T* context);

template <class T>
void packed_attention_backward(const PackedAttention<T>& attention, const T* grad_context,
                               T* grad_query, T* grad_key, T* grad_value);

}  // namespace mclrec
