// The kernels of item_cross_entropy_cpu.cpp (see there), compiled once per instruction set, and
// once per precision that rounds.
// clang-format off
#include "simd.inl"
#include "vector_math.inl"
#include "gemm_tile.inl"
#include "item_cross_entropy_chunk.inl"
#if MCLREC_ROUNDS
#include "transpose.inl"
#include "products.inl"
#include "item_cross_entropy_rounded.inl"
#else
#include "item_cross_entropy.inl"
#endif
// clang-format on
