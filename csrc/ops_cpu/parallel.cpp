// parallel_tasks (cpu/parallel.h) over torch's own thread pool, so that the kernels obey
// torch.set_num_threads and never start threads beside torch's.
// torch releases the GIL while an operator called through torch.ops runs, so kernels run beside
// other Python threads; they must not touch Python objects.
#include "../cpu/parallel.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <exception>

namespace mclrec {
namespace {

thread_local bool inside_region = false;

// What the workers of one call share.
struct Region {
  TaskFunction function;
  const void* context;
  int64_t n_tasks;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error{};
};

void work(Region& region, int worker) {
  try {
    while (!region.failed.load(std::memory_order_relaxed)) {
      const int64_t task = region.next.fetch_add(1, std::memory_order_relaxed);
      if (task >= region.n_tasks) break;
      region.function(region.context, task, worker);
    }
  } catch (...) {
    if (!region.failed.exchange(true)) region.error = std::current_exception();
  }
}

}  // namespace

int worker_count() {
  if (inside_region) return 1;
  return static_cast<int>(std::max(1u, torch::stable::get_num_threads()));
}

void run_parallel_tasks(int64_t n_tasks, TaskFunction function, const void* context) {
  const int64_t workers = std::min<int64_t>(worker_count(), n_tasks);
  if (workers <= 1) {
    for (int64_t t = 0; t < n_tasks; ++t) function(context, t, 0);
    return;
  }
  Region region{function, context, n_tasks};
  // One index per worker: torch gives each of its threads one chunk. Where it has fewer threads to
  // give (or is already inside a region of its own), one of them gets several indices and works for
  // all of them under the first number.
  torch::stable::parallel_for(0, workers, 1, [&region](int64_t begin, int64_t) {
    const bool outer = inside_region;
    inside_region = true;
    work(region, static_cast<int>(begin));
    inside_region = outer;
  });
  if (region.error) std::rethrow_exception(region.error);
}

}  // namespace mclrec
