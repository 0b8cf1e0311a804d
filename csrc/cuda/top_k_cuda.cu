// Launcher of top_k_kernel.cuh.
#include "top_k_kernel.cuh"

namespace mclrec::cuda {
namespace {

int kept_of(const Splits& splits, std::int64_t k) {
  const std::int64_t part = static_cast<std::int64_t>(splits.tiles) * kTile;
  return static_cast<int>(k < part ? k : part);
}

// The same job over a table of the candidates alone, whose `candidates` are the ids by row.
template <typename Real>
TopKArguments<Real> over_candidates(TopKArguments<Real> job, Context& context) {
  // An empty list may have no address.
  if (job.candidates == nullptr && job.candidate_count == job.classes - 1) return job;
  const std::int64_t rows = job.candidate_count + 1;
  Real* const table = context.scratch<Real>(rows * job.hidden);
  std::int32_t* const ids = context.scratch<std::int32_t>(rows);
  launch({blocks_for(rows, kGatherThreads / kWarpSize), kGatherThreads, 0,
          static_cast<cudaStream_t>(context.stream())},
         gather_candidates_kernel<Real>, job, table, ids);
  job.items = table;
  job.candidates = ids;
  job.classes = rows;
  return job;
}

}  // namespace

template <typename Real>
void top_k(const TopKArguments<Real>& given, Context& context) {
  const auto stream = static_cast<cudaStream_t>(context.stream());
  const TopKArguments<Real> job = over_candidates(given, context);
  const int hidden = static_cast<int>(job.hidden);
  const Splits splits = strip_splits(job.batch, job.classes);
  const int kept = kept_of(splits, job.k);
  const std::int64_t parts = splits.count * job.batch;
  auto* const items = context.scratch<std::int32_t>(parts * kept + parts);
  const TopKLists<Real> lists{splits, kept, context.scratch<Real>(parts * kept), items,
                              items + parts * kept};
  launch({dim3(blocks_for(job.batch, kTile), static_cast<unsigned>(splits.count)), kTileThreads,
          strip_shared_bytes<Real>(hidden), stream},
         top_k_lists_kernel<Real>, job, matrix_of(job.h, job.batch, hidden, hidden),
         matrix_of(job.items, job.classes, hidden, hidden), lists);
  launch({blocks_for(job.batch, kTopKThreads / kWarpSize), kTopKThreads, 0, stream},
         top_k_kernel<Real>, job, lists);
}
template void top_k(const TopKArguments<float>&, Context&);
template void top_k(const TopKArguments<double>&, Context&);

}  // namespace mclrec::cuda
