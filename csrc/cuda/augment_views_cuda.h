// Launcher of augment_views and gather_sequences on CUDA; torch-free, device pointers throughout.
#pragma once

#include <cstdint>

#include "../shared/augment_views.h"
#include "context.h"

namespace mclrec::cuda {

// Longest history whose views fit in shared memory.
inline constexpr std::int64_t kLongestHistory = 40000;

// Lengths and starts are clamped to the log on the device, so that wrong ones give wrong views,
// never an access out of bounds. The output's items and positions are zeroed by the caller.
void augment_views(const Histories& histories, const AugmentParams& params,
                   const PackedOutput& output, Context& context);

}  // namespace mclrec::cuda
