// Launchers of augment_views_kernel.cuh.
#include "augment_views_kernel.cuh"

namespace mclrec::cuda {

void augment_views(const Histories& histories, const AugmentParams& params,
                   const PackedOutput& output, Context& context) {
  // Every warp of a block holds one view in shared memory.
  const std::size_t view_bytes = static_cast<std::size_t>(histories.max_length) * 4;
  int warps = kAugmentWarps;
  while (warps > 1 && static_cast<std::size_t>(warps) * view_bytes > kDefaultSharedBytes)
    warps /= 2;
  const std::int64_t rows = (1 + params.views) * histories.count;
  const unsigned blocks = blocks_for(rows, kAugmentRows);
  auto* const scratch = context.scratch<std::int32_t>(rows + blocks);
  const RowTokens tokens{scratch, scratch + rows};
  const Launch shape({blocks, static_cast<unsigned>(warps * kWarpSize),
                      static_cast<std::size_t>(warps) * view_bytes,
                      static_cast<cudaStream_t>(context.stream())});
  launch(shape, view_lengths_kernel, histories, params, tokens);
  launch(shape, write_views_kernel, histories, params, tokens, output);
}

}  // namespace mclrec::cuda
