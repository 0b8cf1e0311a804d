// See thread_pool.h. One mutex guards the open loops and the sleepers; each thread takes it twice a
// loop. A caller may return, and its loop be gone, as soon as nobody works in it.
#include "thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define MCLREC_FORKS 1
#else
#define MCLREC_FORKS 0
#endif

namespace mclrec {
namespace {

// How long a thread waits actively: longer than what lies between most loops of a training batch,
// far shorter than the turn a scheduler gives to a neighbour.
constexpr std::chrono::microseconds kSpin{100};

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Waits for `done`, for kSpin at most; returns whether it is.
template <class Done>
bool spin(const Done& done) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 16; ++i) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

// A loop that helpers may join. Guarded by the pool's mutex; `working` is also read without it.
struct Open {
  TaskLoop& loop;
  int places;  // for helpers
  int joined = 0;
  std::atomic<int> working{0};
  bool caller_sleeps = false;
};

class ThreadPool {
 public:
  void run(TaskLoop& loop, int helpers) {
    Open open{loop, helpers};
    int to_wake = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      grow(helpers);
      open_.push_back(&open);
      posted_.fetch_add(1, std::memory_order_release);
      to_wake = std::min(helpers, sleepers_);
    }
    for (int i = 0; i < to_wake; ++i) wake_.notify_one();
    loop.work(0);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      open_.erase(std::find(open_.begin(), open_.end(), &open));
    }
    const auto done = [&] { return open.working.load(std::memory_order_acquire) == 0; };
    if (done() || (may_spin() && spin(done))) return;
    std::unique_lock<std::mutex> lock(mutex_);
    open.caller_sleeps = true;
    done_.wait(lock, done);
  }

 private:
  // Only where every thread has a core to itself.
  bool may_spin() const { return threads_.load(std::memory_order_relaxed) < cores_; }

  void grow(int helpers) {
    while (threads_ < helpers && !exhausted_) {
      try {
        std::thread([this] { help(); }).detach();
        ++threads_;
      } catch (const std::system_error& error) {
        exhausted_ = true;
        std::fprintf(stderr, "mclrec_fast: the system gives no more threads (%s): using %d\n",
                     error.what(), threads_ + 1);
      }
    }
  }

  void help() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      while (Open* open = join()) {
        const int worker = open->joined;
        lock.unlock();
        open->loop.work(worker);
        lock.lock();
        const bool caller_sleeps = open->caller_sleeps;
        const bool last = open->working.fetch_sub(1, std::memory_order_release) == 1;
        if (last && caller_sleeps) done_.notify_all();
      }
      const uint64_t seen = posted_.load(std::memory_order_relaxed);
      const auto more = [&] { return posted_.load(std::memory_order_acquire) != seen; };
      lock.unlock();
      const bool found = may_spin() && spin(more);
      lock.lock();
      if (found) continue;
      ++sleepers_;
      wake_.wait(lock, more);
      --sleepers_;
    }
  }

  // A place in the first loop that has one, and something to do.
  Open* join() {
    for (Open* open : open_) {
      if (open->joined == open->places || open->loop.all_taken()) continue;
      ++open->joined;
      open->working.fetch_add(1, std::memory_order_relaxed);
      return open;
    }
    return nullptr;
  }

  const int cores_ = static_cast<int>(std::thread::hardware_concurrency());
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<Open*> open_;
  int sleepers_ = 0;
  bool exhausted_ = false;
  std::atomic<int> threads_{0};
  alignas(64) std::atomic<uint64_t> posted_{0};  // loops so far
};

// Never destroyed: its threads sleep on it until the process ends.
std::atomic<ThreadPool*> instance{nullptr};

ThreadPool& pool() {
  static const bool made = [] {
    instance = new ThreadPool;
#if MCLREC_FORKS
    // Threads do not follow a fork, and one of them may have held the lock.
    pthread_atfork(nullptr, nullptr, [] { instance = new ThreadPool; });
#endif
    return true;
  }();
  static_cast<void>(made);
  return *instance.load(std::memory_order_relaxed);
}

}  // namespace

void run_with_helpers(TaskLoop& loop, int helpers) { pool().run(loop, helpers); }

}  // namespace mclrec
