// parallel_tasks over torch's pool: every task once, workers within bounds and never shared, nested
// calls, exceptions, several calling threads. A program of its own (exit code 0 = all well), linked
// with ops_cpu/parallel.cpp and libtorch.
#include "../../csrc/cpu/parallel.h"

#include <atomic>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

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

void several_callers() {
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([] {
      for (int round = 0; round < 20; ++round) every_task_once(33);
    });
  }
  for (std::thread& caller : callers) caller.join();
}

}  // namespace

int main() {
  std::printf("%d workers\n", mclrec::worker_count());
  for (const int64_t n : {0, 1, 2, 3, 100, 1000}) every_task_once(n);
  nested();
  exceptions();
  several_callers();
  return failures == 0 ? 0 : 1;
}
