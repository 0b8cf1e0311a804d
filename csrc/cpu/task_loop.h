// A loop of independent tasks that several threads take from, one task after the other. Who brings
// the threads is not its business: see thread_pool.h and ops_cpu/parallel.cpp.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

#include "parallel.h"

namespace mclrec {

class TaskLoop {
 public:
  TaskLoop(int64_t n_tasks, TaskFunction function, const void* context)
      : function_(function), context_(context), n_tasks_(n_tasks) {}

  // Whether this thread works for a loop now.
  static bool inside() { return inside_; }

  // Nobody has to begin any more.
  bool all_taken() const {
    return next_.load(std::memory_order_relaxed) >= n_tasks_ ||
           failed_.load(std::memory_order_relaxed);
  }

  // Takes tasks until all are taken or one has failed. One thread at a time for each worker.
  void work(int worker) {
    const bool outer = inside_;
    inside_ = true;
    try {
      while (!failed_.load(std::memory_order_relaxed)) {
        const int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
        if (task >= n_tasks_) break;
        function_(context_, task, worker);
      }
    } catch (...) {
      if (!failed_.exchange(true)) error_ = std::current_exception();
    }
    inside_ = outer;
  }

  // Throws the first exception of a task. Only when nobody works any more.
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  inline static thread_local bool inside_ = false;

  TaskFunction function_;
  const void* context_;
  int64_t n_tasks_;
  alignas(64) std::atomic<int64_t> next_{0};  // written by all
  std::atomic<bool> failed_{false};
  std::exception_ptr error_{};
};

}  // namespace mclrec
