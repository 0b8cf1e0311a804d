// Instruction sets: one binary holds every kernel twice on x86, portable and AVX2 + FMA, and picks
// at run time. This header decides which, and offers the markers that compile a block of code for
// AVX2. It is not a vector library.
//
// How a kernel file uses it (the inline kernels live in foo_kernels.inl, which has no #include and
// no namespace of its own; every header it needs is included before, outside the markers):
//
//   namespace mclrec::foo::portable {
//   #include "foo_kernels.inl"
//   }
//   #if MCLREC_HAS_AVX2
//   MCLREC_AVX2_BEGIN
//   namespace mclrec::foo::avx2 {
//   #include "foo_kernels.inl"
//   }
//   MCLREC_AVX2_END
//   #endif
//   ... const FooTable& table = MCLREC_PICK(foo, table);   // avx2::table or portable::table
//
// Kernels written with the vectors of simd.inl say in each namespace how wide they are (see there).
//
// Two namespaces matter: the same template instantiated for both sets under one name would be
// merged by the linker, and the portable path would then crash on an old CPU. Templates of the
// standard library are safe in both (they are declared outside the markers), but heavy inner loops
// must not rely on them.
#pragma once

#include <atomic>
#include <cstdlib>
#include <cstring>

#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#define MCLREC_HAS_AVX2 1
#else
#define MCLREC_HAS_AVX2 0
#endif

#if MCLREC_HAS_AVX2
#if defined(__clang__)
#define MCLREC_AVX2_BEGIN \
  _Pragma("clang attribute push(__attribute__((target(\"avx2,fma\"))), apply_to = function)")
#define MCLREC_AVX2_END _Pragma("clang attribute pop")
#else
#define MCLREC_AVX2_BEGIN _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma\")")
#define MCLREC_AVX2_END _Pragma("GCC pop_options")
#endif
// The member `name` of the namespace of the chosen instruction set.
#define MCLREC_PICK(op, name) \
  (::mclrec::selected_isa() == ::mclrec::Isa::kAvx2 ? op::avx2::name : op::portable::name)
#else
#define MCLREC_PICK(op, name) (op::portable::name)
#endif

namespace mclrec {

enum class Isa : int { kPortable = 0, kAvx2 = 1 };

inline const char* isa_name(Isa isa) { return isa == Isa::kAvx2 ? "avx2" : "portable"; }

// Whether this binary holds the variant and this CPU can run it.
inline bool isa_usable(Isa isa) {
  if (isa == Isa::kPortable) return true;
#if MCLREC_HAS_AVX2
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

// The best usable set, or the one MCLREC_FAST_ISA names ("avx2" or "portable") where it is usable.
// An unknown word or an unusable set is refused by the Python side, which reads the same variable.
inline Isa default_isa() {
  const char* wanted = std::getenv("MCLREC_FAST_ISA");
  if (wanted != nullptr && std::strcmp(wanted, "portable") == 0) return Isa::kPortable;
  return isa_usable(Isa::kAvx2) ? Isa::kAvx2 : Isa::kPortable;
}

inline std::atomic<Isa>& isa_setting() {
  static std::atomic<Isa> setting{default_isa()};
  return setting;
}

// The set every kernel uses. Ask once per op, not inside loops.
inline Isa selected_isa() { return isa_setting().load(std::memory_order_relaxed); }

// Lets tests and the environment report switch; false (and no change) where it is not usable.
inline bool select_isa(Isa isa) {
  if (!isa_usable(isa)) return false;
  isa_setting().store(isa, std::memory_order_relaxed);
  return true;
}

}  // namespace mclrec
