// Launcher of target_rank_kernel.cuh.
#include "target_rank_kernel.cuh"

namespace mclrec::cuda {

template <typename Real>
void target_rank(const TargetRankArguments<Real>& job, Context& context) {
  const auto stream = static_cast<cudaStream_t>(context.stream());
  const int hidden = static_cast<int>(job.hidden);
  const Splits splits = strip_splits(job.batch, job.classes);
  const std::int64_t part = splits.count * job.batch;
  auto* const scratch = context.scratch<std::int32_t>(3 * part);
  const RankCounts counts{splits, scratch, scratch + part, scratch + 2 * part};
  launch({dim3(blocks_for(job.batch, kTile), static_cast<unsigned>(splits.count)), kTileThreads,
          strip_shared_bytes<Real>(hidden), stream},
         target_counts_kernel<Real>, job, matrix_of(job.h, job.batch, hidden, hidden),
         matrix_of(job.items, job.classes, hidden, hidden), counts);
  launch({blocks_for(job.batch, kRankThreads / kWarpSize), kRankThreads, 0, stream},
         target_rank_kernel<Real>, job, counts);
}
template void target_rank(const TargetRankArguments<float>&, Context&);
template void target_rank(const TargetRankArguments<double>&, Context&);

}  // namespace mclrec::cuda
