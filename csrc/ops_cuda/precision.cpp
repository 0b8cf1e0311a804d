// The switch that lets matrix products run on tensor cores with rounded factors. Nothing is rounded
// unless Python says so (torch's own switch cannot be read through the stable ABI).
#include "precision.h"

#include <atomic>

namespace mclrec {
namespace {

std::atomic<cuda::Precision> chosen{cuda::Precision::kFloat32};

}  // namespace

cuda::Precision precision() { return chosen.load(std::memory_order_relaxed); }

void set_precision(cuda::Precision value) { chosen.store(value, std::memory_order_relaxed); }

}  // namespace mclrec

#ifdef MCLREC_CUDA_EMULATION
extern "C" void mclrec_emulation_precision(int value) {
  mclrec::set_precision(static_cast<mclrec::cuda::Precision>(value));
}
#endif
