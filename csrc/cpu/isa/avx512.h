// AVX-512 as Skylake-X (2017) has it. Used unasked where the CPU also has bf16 products (Cooper
// Lake, Sapphire Rapids, Zen 4): the older ones slow their clock for it, and some have one unit
// only. Thirty-two registers: twelve rows of two vectors, two of the right operand, one of the
// left. Twelve divides the 72 items of a tile of the catalogue and the 96 tokens of a block of the
// encoder.
#pragma once

#include <cstdint>

#define MCLREC_BEGIN_avx512 MCLREC_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#define MCLREC_END_avx512 MCLREC_TARGET_END

namespace mclrec::isa::avx512 {

constexpr int kVectorBytes = 64;
constexpr int kTileRows = 12;
constexpr int64_t kPadding = 32;

inline bool supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
inline bool by_default() { return __builtin_cpu_supports("avx512bf16"); }

}  // namespace mclrec::isa::avx512
