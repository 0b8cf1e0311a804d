// A register-only multiply-add loop in the instruction set in use; see fma_peak.inl.
#include "fma_peak.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "simd.h"

#if MCLREC_X86
#define MCLREC_KEEP(vector) __asm__ volatile("" : "+x"(vector))
#else
#define MCLREC_KEEP(vector) __asm__ volatile("" : "+w"(vector))
#endif

namespace mclrec::fma_peak {

// Twelve chains hide the latency of the unit (two units x up to six cycles); fourteen registers of
// sixteen are in use.
constexpr int kChains = 12;
constexpr long kRounds = 20000;

struct Burst {
  float result;
  int lanes;
};

}  // namespace mclrec::fma_peak

#define MCLREC_OP fma_peak
#define MCLREC_KERNELS "../fma_peak.inl"
#include "isa/each_set.inl"

namespace mclrec::fma_peak {
namespace {

std::atomic<float> sink;

// GFLOP/s of one thread.
double thread_peak(double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto burst = MCLREC_PICK(fma_peak, burst);
  sink = burst(0.5f).result;  // the unit wakes up
  const Clock::time_point start = Clock::now();
  double flops = 0.0, elapsed = 0.0;
  do {
    const Burst done = burst(sink.load(std::memory_order_relaxed));
    sink.store(done.result, std::memory_order_relaxed);
    flops += 2.0 * kRounds * kChains * done.lanes;
    elapsed = std::chrono::duration<double>(Clock::now() - start).count();
  } while (elapsed < seconds);
  return flops / elapsed / 1e9;
}

double measure(int threads, double seconds) {
  std::vector<double> peaks(static_cast<size_t>(threads), 0.0);
  std::atomic<int> waiting{threads};
  const auto run = [&](int index) {
    waiting.fetch_sub(1);
    while (waiting.load() > 0) std::this_thread::yield();  // all start together
    peaks[static_cast<size_t>(index)] = thread_peak(seconds);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(run, i);
  run(0);
  for (std::thread& other : others) other.join();
  double total = 0.0;
  for (const double peak : peaks) total += peak;
  return total;
}

}  // namespace
}  // namespace mclrec::fma_peak

namespace mclrec {

double fma_peak_gflops(int threads, double seconds) { return fma_peak::measure(threads, seconds); }

}  // namespace mclrec
