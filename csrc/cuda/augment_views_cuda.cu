// Launchers of augment_views_kernel.cuh.
#include "augment_views_kernel.cuh"

namespace mclrec::cuda {

std::int64_t augment_blocks(std::int64_t rows) {
  return static_cast<std::int64_t>(blocks_for(rows, kAugmentRows));
}

void augment_views(const Histories& histories, const AugmentParams& params,
                   const PackedOutput& output, void* stream) {
  // Every warp of a block holds one view in shared memory.
  const std::size_t view_bytes = static_cast<std::size_t>(histories.max_length) * 4;
  int warps = kAugmentWarps;
  while (warps > 1 && static_cast<std::size_t>(warps) * view_bytes > kDefaultSharedBytes)
    warps /= 2;
  const std::int64_t rows = (1 + params.views) * histories.count;
  const Launch shape(
      {static_cast<unsigned>(augment_blocks(rows)), static_cast<unsigned>(warps * kWarpSize),
       static_cast<std::size_t>(warps) * view_bytes, static_cast<cudaStream_t>(stream)});
  launch(shape, view_lengths_kernel, histories, params, output);
  launch(shape, write_views_kernel, histories, params, output);
}

}  // namespace mclrec::cuda
