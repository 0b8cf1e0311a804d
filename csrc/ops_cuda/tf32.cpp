// The switch that lets matrix products run on tensor cores with operands rounded to TF32. Off
// unless Python turns it on (torch's own switch cannot be read through the stable ABI).
#include <atomic>

#include "common.h"

namespace mclrec {
namespace {

std::atomic<bool> allowed{false};

}  // namespace

bool tf32_allowed() { return allowed.load(std::memory_order_relaxed); }

void allow_tf32(bool value) { allowed.store(value, std::memory_order_relaxed); }

}  // namespace mclrec

#ifdef MCLREC_CUDA_EMULATION
extern "C" void mclrec_emulation_allow_tf32(int value) { mclrec::allow_tf32(value != 0); }
#endif
