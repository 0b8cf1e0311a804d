// Instruction sets: one binary holds every kernel once for each set of isa/sets.h and picks at run
// time. This header decides which; isa/each_set.inl compiles the kernels. It is not a vector
// library (that is simd.inl).
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "isa/sets.h"

namespace mclrec {

// A number in the list of isa/sets.h.
#define MCLREC_NAME(set) set,
enum class Isa : int { MCLREC_EACH_SET(MCLREC_NAME) };
#undef MCLREC_NAME

struct IsaFacts {
  const char* name;
  bool (*supported)();
  bool (*by_default)();
  int64_t vector_bytes;
  int64_t tile_rows;
  int64_t padding;
};

#define MCLREC_FACTS(set)  \
  {#set,                   \
   isa::set::supported,    \
   isa::set::by_default,   \
   isa::set::kVectorBytes, \
   isa::set::kTileRows,    \
   isa::set::kPadding},
inline constexpr IsaFacts kIsaSets[] = {MCLREC_EACH_SET(MCLREC_FACTS)};
#undef MCLREC_FACTS
inline constexpr int kIsaCount = sizeof(kIsaSets) / sizeof(kIsaSets[0]);

inline const IsaFacts& isa_facts(Isa isa) { return kIsaSets[static_cast<int>(isa)]; }

// The widest set that this CPU can run and that is used unasked; or the one MCLREC_FAST_ISA names,
// where this CPU can run it. Other words are refused by the Python side, which reads the same
// variable.
inline Isa default_isa() {
  const char* wanted = std::getenv("MCLREC_FAST_ISA");
  int best = 0;
  for (int i = 0; i < kIsaCount; ++i) {
    if (!kIsaSets[i].supported()) continue;
    if (wanted != nullptr && std::strcmp(wanted, kIsaSets[i].name) == 0) return Isa{i};
    if (kIsaSets[i].by_default()) best = i;
  }
  return Isa{best};
}

inline std::atomic<Isa>& isa_setting() {
  static std::atomic<Isa> setting{default_isa()};
  return setting;
}

// The set every kernel uses. Ask once per op, not inside loops.
inline Isa selected_isa() { return isa_setting().load(std::memory_order_relaxed); }

// Lets tests and the environment report switch; false (and no change) where it is not usable.
inline bool select_isa(Isa isa) {
  if (!isa_facts(isa).supported()) return false;
  isa_setting().store(isa, std::memory_order_relaxed);
  return true;
}

template <class Function>
Function* pick(Function* const (&of_sets)[kIsaCount]) {
  return of_sets[static_cast<int>(selected_isa())];
}

}  // namespace mclrec

// The function of the chosen instruction set: MCLREC_PICK(op, name) is &op::<set>::name.
#define MCLREC_OF_SET(set, op, ...) &op::set::__VA_ARGS__,
#define MCLREC_PICK(op, ...)                            \
  (::mclrec::pick<decltype(op::portable::__VA_ARGS__)>( \
      {MCLREC_EACH_SET(MCLREC_OF_SET, op, __VA_ARGS__)}))
