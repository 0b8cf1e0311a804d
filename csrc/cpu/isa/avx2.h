// AVX2 with FMA: Haswell (2013), Zen (2017) and later. Sixteen registers: six rows of two vectors,
// two of the right operand, one of the left.
#pragma once

#include <cstdint>

#define MCLREC_BEGIN_avx2 MCLREC_TARGET("avx2,fma")
#define MCLREC_END_avx2 MCLREC_TARGET_END

namespace mclrec::isa::avx2 {

constexpr int kVectorBytes = 32;
constexpr int kTileRows = 6;
constexpr int64_t kPadding = 16;

inline bool supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
inline bool by_default() { return true; }

}  // namespace mclrec::isa::avx2
