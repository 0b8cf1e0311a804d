// parallel_tasks over torch's threads and over the package's own: every task once, workers within
// bounds and never shared, nested calls, exceptions, several calling threads; the own ones also
// more than there are cores, in a forked child, and where the system gives none. A program of its
// own (exit code 0 = all well), linked with ops_cpu/parallel.cpp, cpu/thread_pool.cpp and libtorch.
#include "../../csrc/ops_cpu/parallel.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../../csrc/cpu/thread_pool.h"

namespace {

int failures = 0;

void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("failed: %s\n", what);
  ++failures;
}

void every_task_once(int64_t n) {
  std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
  const int workers = mclrec::worker_count();
  std::vector<std::atomic<int>> busy(static_cast<size_t>(workers));
  std::atomic<bool> bounds{true}, shared{false};
  mclrec::parallel_tasks(n, [&](int64_t task, int worker) {
    if (worker < 0 || worker >= workers) {
      bounds = false;
      return;
    }
    if (busy[static_cast<size_t>(worker)].fetch_add(1) != 0) shared = true;
    seen[static_cast<size_t>(task)].fetch_add(1);
    busy[static_cast<size_t>(worker)].fetch_sub(1);
  });
  bool once = true;
  for (const auto& count : seen) once = once && count == 1;
  expect(once, "every task runs once");
  expect(bounds, "worker numbers are below worker_count()");
  expect(!shared, "no two tasks share a worker at one time");
}

void nested() {
  std::atomic<int> inner{0};
  std::atomic<bool> serial{true};
  mclrec::parallel_tasks(8, [&](int64_t, int) {
    if (mclrec::worker_count() != 1) serial = false;
    mclrec::parallel_tasks(5, [&](int64_t, int worker) {
      if (worker != 0) serial = false;
      inner.fetch_add(1);
    });
  });
  expect(inner == 40, "nested tasks all run");
  if (mclrec::worker_count() > 1) expect(serial, "nested tasks run serially as worker 0");
}

void exceptions() {
  std::string caught;
  try {
    mclrec::parallel_tasks(100, [](int64_t task, int) {
      if (task == 7) throw std::invalid_argument("task seven");
    });
  } catch (const std::invalid_argument& error) {
    caught = error.what();
  }
  expect(caught == "task seven", "an exception reaches the caller with its type");
  every_task_once(50);
}

void several_callers(bool helpers) {
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([helpers] {
      mclrec::use_helpers(helpers);
      for (int round = 0; round < 20; ++round) every_task_once(33);
    });
  }
  for (std::thread& caller : callers) caller.join();
}

// With more helpers than cores: how many workers came, where every task takes a while.
int workers_of(int helpers) {
  std::vector<std::atomic<int>> tasks(static_cast<size_t>(helpers) + 1);
  const auto task = [&](int64_t, int worker) {
    tasks[static_cast<size_t>(worker)].fetch_add(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  mclrec::TaskLoop loop(
      200,
      [](const void* context, int64_t t, int worker) {
        (*static_cast<const decltype(task)*>(context))(t, worker);
      },
      &task);
  mclrec::run_with_helpers(loop, helpers);
  loop.rethrow();
  int came = 0, total = 0;
  for (const auto& count : tasks) {
    came += count > 0;
    total += count;
  }
  expect(total == 200, "every task runs once, with any number of helpers");
  return came;
}

// Calls `run` in a child that is forked off now, for at most a minute; whether it ended well.
template <class Run>
bool in_child(const Run& run) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    failures = 0;
    run();
    _exit(failures == 0 ? 0 : 1);
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && status == 0;
}

// No memory for the stack of a thread.
void without_threads() {
  long pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  if (pages == 0) return;  // not a Linux
  const rlim_t used = static_cast<rlim_t>(pages) * static_cast<rlim_t>(sysconf(_SC_PAGESIZE));
  const rlimit limit{used + (1 << 20), used + (1 << 20)};
  setrlimit(RLIMIT_AS, &limit);
  expect(workers_of(3) == 1, "where there are no threads the caller does it all");
}

}  // namespace

int main() {
  std::printf("%d workers\n", mclrec::worker_count());
  expect(in_child(without_threads), "without threads");
  for (const bool helpers : {false, true}) {
    mclrec::use_helpers(helpers);
    for (const int64_t n : {0, 1, 2, 3, 100, 1000}) every_task_once(n);
    nested();
    exceptions();
    several_callers(helpers);
  }
  expect(workers_of(7) == 8, "helpers come where tasks take long");
  expect(in_child([] { expect(workers_of(3) == 4, "helpers of a forked child"); }), "a fork");
  expect(workers_of(7) == 8, "helpers behind a fork");
  return failures == 0 ? 0 : 1;
}
