// What the vector code of csrc/cpu needs before it may be compiled for an instruction set: the
// intrinsics header and the inlining marker. The vector types and their few functions are in
// simd.inl, which each kernel file includes inside the namespace of a set (isa/each_set.inl).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../shared/rounding.h"
#include "isa.h"
#include "rows.h"

#if MCLREC_X86
#include <immintrin.h>
#endif

// Vector functions must disappear into their callers: a call would pass vectors through memory.
#define MCLREC_INLINE inline __attribute__((always_inline))

#if defined(__GNUC__) && !defined(__clang__)
// About calls that pass vectors by value; all of ours are inlined.
#pragma GCC diagnostic ignored "-Wpsabi"
#endif
