// AVX-512 with bf16 conversions and AMX's tiles: what rounded products are compiled for (see
// precision.h). Not one of the sets of sets.h: kernels that do not round gain nothing from it.
#pragma once

#include "sets.h"

#if MCLREC_X86 && defined(__x86_64__) && \
    ((defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11))
#define MCLREC_AMX 1
#else
#define MCLREC_AMX 0
#endif

// 1 where each_rounding.inl compiles.
#define MCLREC_ROUNDS 0

#if MCLREC_AMX
#define MCLREC_BEGIN_amx \
  MCLREC_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,amx-tile,amx-bf16")
#define MCLREC_END_amx MCLREC_TARGET_END

namespace mclrec::isa::amx {

using avx512::kPadding;
using avx512::kTileRows;
using avx512::kVectorBytes;

}  // namespace mclrec::isa::amx
#endif
