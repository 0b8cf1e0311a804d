// Launchers of target_rank_kernel.cuh.
#include "target_rank_kernel.cuh"

namespace mclrec::cuda {

std::int64_t target_rank_scratch(std::int64_t batch, std::int64_t classes) {
  return 3 * strip_splits(batch, classes).count * batch;
}

template <typename Real>
void target_rank(const TargetRank<Real>& job, void* stream_pointer) {
  const auto stream = static_cast<cudaStream_t>(stream_pointer);
  const Splits splits = strip_splits(job.batch, job.classes);
  const std::int64_t part = splits.count * job.batch;
  const RankCounts counts{splits, job.scratch, job.scratch + part, job.scratch + 2 * part};
  launch({dim3(blocks_for(job.batch, kTile), static_cast<unsigned>(splits.count)), kTileThreads,
          strip_shared_bytes<Real>(job.depth), stream},
         target_counts_kernel<Real>, job, matrix_of(job.h, job.batch, job.depth, job.depth),
         matrix_of(job.items, job.classes, job.depth, job.depth), counts);
  launch({blocks_for(job.batch, kRankThreads / kWarpSize), kRankThreads, 0, stream},
         target_rank_kernel<Real>, job, counts);
}
template void target_rank(const TargetRank<float>&, void*);
template void target_rank(const TargetRank<double>&, void*);

}  // namespace mclrec::cuda
