// Parallel tasks for the torch-free kernels: a loop over independent tasks, handed out one by one
// to torch's own threads. Only the interface lives here; the extension implements it over torch
// (ops_cpu/parallel.cpp), test programs may implement it as a plain loop.
#pragma once

#include <cstdint>

namespace mclrec {

// Threads the next parallel_tasks call of this thread can use (torch.get_num_threads()); 1 inside a
// parallel region. Size per-worker scratch with it.
int worker_count();

using TaskFunction = void (*)(const void* context, int64_t task, int worker);

// Implementation behind parallel_tasks: calls function(context, t, w) once for every t in
// [0, n_tasks), in no fixed order or place.
void run_parallel_tasks(int64_t n_tasks, TaskFunction function, const void* context);

// Calls task(t, worker) once for each t in [0, n_tasks): `worker` is in [0, worker_count()), and
// two tasks with one worker number never run at the same time, so scratch may be indexed by it.
// Tasks are taken dynamically, in rising order; which worker gets which is not reproducible, so a
// result must depend on t only. The first exception ends the loop and is thrown to the caller.
// Calls from several threads are independent of each other (each has its own worker numbers, so
// scratch must belong to the call); a call from inside a task runs there, serially, as worker 0.
template <class Task>
void parallel_tasks(int64_t n_tasks, const Task& task) {
  run_parallel_tasks(
      n_tasks,
      [](const void* context, int64_t t, int worker) {
        (*static_cast<const Task*>(context))(t, worker);
      },
      &task);
}

}  // namespace mclrec
