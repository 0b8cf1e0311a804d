// Causal attention over packed sequences on the CPU, forward and backward. Interface only; raw
// pointers, no torch. A sequence of n tokens costs 2 n^2 d FLOP a head forward and 6 n^2 d backward
// (and 2 n^2 d to compute the probabilities again, which nothing keeps), half of it masked.
#pragma once

#include "../shared/packed_attention.h"
#include "dropout_bits.h"

namespace mclrec {

template <class T>
struct PackedAttention : PackedAttentionParams<T> {
  Dropout dropout;

  PackedAttention(const PackedAttentionParams<T>& params)
      : PackedAttentionParams<T>(params),
        dropout{params.p, params.seed, static_cast<uint32_t>(*params.update)} {}
};

// context: tokens behind the last sequence get 0.
template <class T>
void packed_attention_forward(const PackedAttention<T>& attention, T* context);

template <class T>
void packed_attention_backward(const PackedAttention<T>& attention, const T* grad_context,
                               T* grad_query, T* grad_key, T* grad_value);

}  // namespace mclrec
