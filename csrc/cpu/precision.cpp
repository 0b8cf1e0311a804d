// The setting of precision.h, and the question to the CPU and the operating system.
#include "precision.h"

#if MCLREC_AMX && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace mclrec {
namespace {

#if MCLREC_AMX && defined(__linux__)
constexpr long kTileData = 18;  // the state component of the tiles, 8 KB a thread

bool has_pairs() { return __builtin_cpu_supports("avx512bf16") > 0; }

// What the CPU has and the kernel can save.
bool has_tiles() {
  static const bool has = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
    if ((d & kBf16) == 0 || (d & kTile) == 0) return false;
    if (!__builtin_cpu_supports("avx512bf16")) return false;
    constexpr long kSupported = 0x1021;  // ARCH_GET_XCOMP_SUPP
    uint64_t components = 0;
    return syscall(SYS_arch_prctl, kSupported, &components) == 0 &&
           (components >> kTileData & 1) != 0;
  }();
  return has;
}

// Linux gives a process the tiles when asked, once.
bool ask_for_tiles() {
  static const bool granted = [] {
    constexpr long kRequest = 0x1023;  // ARCH_REQ_XCOMP_PERM
    return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  }();
  return granted;
}
#else
bool has_pairs() { return false; }
bool has_tiles() { return false; }
bool ask_for_tiles() { return false; }
#endif

std::atomic<bool>& tiles_allowed() {
  static std::atomic<bool> allowed{[] {
    const char* said = std::getenv("MCLREC_FAST_AMX");
    return said == nullptr || std::strcmp(said, "0") != 0;
  }()};
  return allowed;
}

bool may_use_tiles() { return tiles_allowed().load(std::memory_order_relaxed) && has_tiles(); }

std::atomic<Precision>& setting() {
  static std::atomic<Precision> chosen{Precision::kFloat32};
  return chosen;
}

}  // namespace

void allow_tiles(bool allowed) { tiles_allowed().store(allowed, std::memory_order_relaxed); }

bool precision_usable(Precision precision) {
  if (precision == Precision::kFloat32) return true;
#if MCLREC_AMX
  if (selected_isa() != Isa::avx512) return false;
#endif
  return may_use_tiles() || (precision == Precision::kBf16 && has_pairs());
}

bool select_precision(Precision precision) {
  if (!precision_usable(precision)) return false;
  if (precision != Precision::kFloat32) {
    const bool tiles = may_use_tiles();
    if (tiles && !ask_for_tiles()) return false;
    tiles_setting().store(tiles, std::memory_order_relaxed);
  }
  setting().store(precision, std::memory_order_relaxed);
  return true;
}

Precision selected_precision() {
  const Precision chosen = setting().load(std::memory_order_relaxed);
  return precision_usable(chosen) ? chosen : Precision::kFloat32;
}

}  // namespace mclrec
