// The instruction sets that every kernel is compiled for, each wider than the one before, and the
// markers that compile a block of code for one. To add a set: a file <name>.h beside this one, and
// a line in the list.
#pragma once

#if defined(__GNUC__) || defined(__clang__)
#if defined(__x86_64__) || defined(__i386__)
#define MCLREC_X86 1
#endif
#endif
#ifndef MCLREC_X86
#define MCLREC_X86 0
#endif

// THE list. Numbers without a gap, from 0 to at most 5.
#define MCLREC_SET_0 portable
#if MCLREC_X86
#define MCLREC_SET_1 avx2
#define MCLREC_SET_2 avx512
#endif

// What a set's file defines, for a set called foo:
//   #define MCLREC_BEGIN_foo, MCLREC_END_foo      markers around code for it, see MCLREC_TARGET
//   namespace mclrec::isa::foo {
//   constexpr int kVectorBytes;                   of a vector (simd.inl)
//   constexpr int kTileRows;                      of a register tile of two vectors (gemm_tile.inl)
//   constexpr int64_t kPadding;                   elements that rows are padded to: whole tiles
//   bool supported();                             whether this CPU can run it
//   bool by_default();                            whether it is then used unasked
//   }
#define MCLREC_TEXT_(...) #__VA_ARGS__
#define MCLREC_TEXT(...) MCLREC_TEXT_(__VA_ARGS__)
#define MCLREC_PASTE_(a, b) a##b
#define MCLREC_PASTE(a, b) MCLREC_PASTE_(a, b)
#if defined(__clang__)
#define MCLREC_TARGET(features) \
  _Pragma(MCLREC_TEXT(clang attribute push(__attribute__((target(features))), apply_to = function)))
#define MCLREC_TARGET_END _Pragma("clang attribute pop")
#else
#define MCLREC_TARGET(features) \
  _Pragma("GCC push_options") _Pragma(MCLREC_TEXT(GCC target(features)))
#define MCLREC_TARGET_END _Pragma("GCC pop_options")
#endif

// Text of the list: MCLREC_EACH_SET(DO, ...) is DO(set, ...) for every set, in order.
// clang-format off
#define MCLREC_EACH_SET(...)                                                 \
  MCLREC_DO_0(__VA_ARGS__) MCLREC_DO_1(__VA_ARGS__) MCLREC_DO_2(__VA_ARGS__) \
  MCLREC_DO_3(__VA_ARGS__) MCLREC_DO_4(__VA_ARGS__) MCLREC_DO_5(__VA_ARGS__)
// clang-format on
#define MCLREC_DO(DO, ...) DO(__VA_ARGS__)
#define MCLREC_DO_0(DO, ...) MCLREC_DO(DO, MCLREC_SET_0 __VA_OPT__(, ) __VA_ARGS__)
#define MCLREC_SET_FILE(set) MCLREC_TEXT(set.h)
#include MCLREC_SET_FILE(MCLREC_SET_0)
#ifdef MCLREC_SET_1
#define MCLREC_DO_1(DO, ...) MCLREC_DO(DO, MCLREC_SET_1 __VA_OPT__(, ) __VA_ARGS__)
#include MCLREC_SET_FILE(MCLREC_SET_1)
#else
#define MCLREC_DO_1(...)
#endif
#ifdef MCLREC_SET_2
#define MCLREC_DO_2(DO, ...) MCLREC_DO(DO, MCLREC_SET_2 __VA_OPT__(, ) __VA_ARGS__)
#include MCLREC_SET_FILE(MCLREC_SET_2)
#else
#define MCLREC_DO_2(...)
#endif
#ifdef MCLREC_SET_3
#define MCLREC_DO_3(DO, ...) MCLREC_DO(DO, MCLREC_SET_3 __VA_OPT__(, ) __VA_ARGS__)
#include MCLREC_SET_FILE(MCLREC_SET_3)
#else
#define MCLREC_DO_3(...)
#endif
#ifdef MCLREC_SET_4
#define MCLREC_DO_4(DO, ...) MCLREC_DO(DO, MCLREC_SET_4 __VA_OPT__(, ) __VA_ARGS__)
#include MCLREC_SET_FILE(MCLREC_SET_4)
#else
#define MCLREC_DO_4(...)
#endif
#ifdef MCLREC_SET_5
#define MCLREC_DO_5(DO, ...) MCLREC_DO(DO, MCLREC_SET_5 __VA_OPT__(, ) __VA_ARGS__)
#include MCLREC_SET_FILE(MCLREC_SET_5)
#else
#define MCLREC_DO_5(...)
#endif
