// Everything of the encoder that is compiled once per instruction set, in order.
// clang-format off
#include "simd.inl"
#include "vector_math.inl"
#include "transpose.inl"
#include "gemm_tile.inl"
#include "products.inl"
#include "dropout_bits.inl"
#include "layer_norm.inl"
#include "attention_head.inl"
#include "encode_weights.inl"
#include "encode_blocks.inl"
#include "encode_forward.inl"
#include "encode_last.inl"
#include "encode_backward.inl"
#include "encode_last_backward.inl"
#include "encode_chunks.inl"
// clang-format on
