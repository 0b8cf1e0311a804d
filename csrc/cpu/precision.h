// What the CPU's products make of their float32 factors, beside the instruction set (isa.h): a
// setting of the process. Rounded products take AMX, the tile unit of Sapphire Rapids (2023) and
// later, or AVX512-BF16 alone, as Zen 4 has it, for bf16: with vectors bf16x3 would be slower than
// float32. They are compiled once for both (isa/each_rounding.inl) and used in float32 where the
// set in use is avx512. Only the encoder and the catalogue's softmax have them.
#pragma once

#include "isa.h"
#include "isa/amx.h"

namespace mclrec {

// Factors as they are; as sums of two bf16 numbers, in three products (about 16 significant bits);
// rounded to bf16 (8 bits). Sums are float32 in all of them.
enum class Precision : int { kFloat32, kBf16x3, kBf16 };
inline constexpr const char* kPrecisionNames[] = {"float32", "bf16x3", "bf16"};

// Whether this CPU, this operating system and the instruction set in use can.
bool precision_usable(Precision precision);

// False, and no change, where it is not usable, or the operating system refuses.
bool select_precision(Precision precision);

// Whether rounded products take AMX's tiles: set with the precision.
inline std::atomic<bool>& tiles_setting() {
  static std::atomic<bool> use{false};
  return use;
}
inline bool tiles_in_use() { return tiles_setting().load(std::memory_order_relaxed); }

// Where they are not allowed the CPU counts as one without AMX, from the next select_precision on.
// MCLREC_FAST_AMX=0 begins so.
void allow_tiles(bool allowed);

// The one in use: float32 too where another was selected and the set was changed since.
Precision selected_precision();

template <class Function>
Function* pick_rounded(Function* bf16x3, Function* bf16) {
  switch (selected_precision()) {
    case Precision::kBf16x3:
      return bf16x3;
    case Precision::kBf16:
      return bf16;
    default:
      return nullptr;
  }
}

}  // namespace mclrec

// &op::<precision>::name, or null where products are not rounded.
#if MCLREC_AMX
#define MCLREC_PICK_ROUNDED(op, ...)                                                 \
  (::mclrec::pick_rounded<decltype(op::bf16::__VA_ARGS__)>(&op::bf16x3::__VA_ARGS__, \
                                                           &op::bf16::__VA_ARGS__))
#else
#define MCLREC_PICK_ROUNDED(op, ...) (decltype (&op::portable::__VA_ARGS__)(nullptr))
#endif
