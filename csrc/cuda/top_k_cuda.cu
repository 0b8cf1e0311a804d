// Launchers of top_k_kernel.cuh.
#include "top_k_kernel.cuh"

namespace mclrec::cuda {
namespace {

int kept_of(const Splits& splits, std::int64_t k) {
  const std::int64_t part = static_cast<std::int64_t>(splits.tiles) * kTile;
  return static_cast<int>(k < part ? k : part);
}

}  // namespace

TopKScratch top_k_scratch(std::int64_t batch, std::int64_t classes, std::int64_t k) {
  const Splits splits = strip_splits(batch, classes);
  return {splits.count * batch * kept_of(splits, k), splits.count * batch};
}

template <typename Real>
void top_k(const TopK<Real>& job, void* stream_pointer) {
  const auto stream = static_cast<cudaStream_t>(stream_pointer);
  const Splits splits = strip_splits(job.batch, job.classes);
  const TopKScratch size = top_k_scratch(job.batch, job.classes, job.k);
  const TopKLists<Real> lists{splits, kept_of(splits, job.k), job.scratch_scores, job.scratch_items,
                              job.scratch_items + size.lists};
  launch({dim3(blocks_for(job.batch, kTile), static_cast<unsigned>(splits.count)), kTileThreads,
          strip_shared_bytes<Real>(job.depth), stream},
         top_k_lists_kernel<Real>, job, matrix_of(job.h, job.batch, job.depth, job.depth),
         matrix_of(job.items, job.classes, job.depth, job.depth), lists);
  launch({blocks_for(job.batch, kTopKThreads / kWarpSize), kTopKThreads, 0, stream},
         top_k_kernel<Real>, job, lists);
}
template void top_k(const TopK<float>&, void*);
template void top_k(const TopK<double>&, void*);

}  // namespace mclrec::cuda
