// parallel_tasks (cpu/parallel.h) with as many threads as torch.set_num_threads allows: torch's
// own, or the helpers of cpu/thread_pool.h where the calling thread has chosen them.
// torch releases the GIL while an operator called through torch.ops runs, so kernels run beside
// other Python threads; they must not touch Python objects.
#include "parallel.h"

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <utility>

#include "../cpu/task_loop.h"
#include "../cpu/thread_pool.h"

namespace mclrec {
namespace {

thread_local bool helpers = false;

}  // namespace

bool use_helpers(bool wanted) { return std::exchange(helpers, wanted); }

int worker_count() {
  if (TaskLoop::inside()) return 1;
  return static_cast<int>(std::max(1u, torch::stable::get_num_threads()));
}

void run_parallel_tasks(int64_t n_tasks, TaskFunction function, const void* context) {
  const int workers = static_cast<int>(std::min<int64_t>(worker_count(), n_tasks));
  if (workers <= 1) {
    for (int64_t t = 0; t < n_tasks; ++t) function(context, t, 0);
    return;
  }
  TaskLoop loop(n_tasks, function, context);
  if (helpers) {
    run_with_helpers(loop, workers - 1);
  } else {
    // One index per worker: torch gives each of its threads one chunk. Where it has fewer threads
    // to give (or is already inside a region of its own), one of them gets several indices and
    // works for all of them under the first number.
    torch::stable::parallel_for(
        0, workers, 1, [&loop](int64_t begin, int64_t) { loop.work(static_cast<int>(begin)); });
  }
  loop.rethrow();
}

}  // namespace mclrec
