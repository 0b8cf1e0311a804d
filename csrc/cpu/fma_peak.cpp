// A register-only multiply-add loop: AVX2 + FMA where the CPU has it, otherwise whatever the
// compiler makes of the same loop on plain vectors.
#include "fma_peak.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "isa.h"

namespace mclrec::fma_peak {
namespace {

// Twelve chains hide the latency of the unit (two units x up to six cycles); fourteen registers of
// sixteen are in use.
constexpr int kChains = 12;
constexpr long kRounds = 20000;

struct Burst {
  float result;
  int lanes;
};

// The chains start from different values, and each passes through an empty asm every round: the
// compiler can neither merge them nor fold rounds together.
#if defined(__GNUC__) || defined(__clang__)
#if MCLREC_HAS_AVX2
MCLREC_AVX2_BEGIN
namespace avx2 {
typedef float Vector __attribute__((vector_size(32)));
__attribute__((noinline)) Burst burst(float start) {
  const Vector b = Vector{} + 0.999f, c = Vector{} + 1e-4f;
  Vector a0 = b * start, a1 = a0 + b, a2 = a1 + b, a3 = a2 + b, a4 = a3 + b, a5 = a4 + b;
  Vector a6 = a5 + b, a7 = a6 + b, a8 = a7 + b, a9 = a8 + b, a10 = a9 + b, a11 = a10 + b;
  for (long round = 0; round < kRounds; ++round) {
    a0 = a0 * b + c, a1 = a1 * b + c, a2 = a2 * b + c, a3 = a3 * b + c;
    a4 = a4 * b + c, a5 = a5 * b + c, a6 = a6 * b + c, a7 = a7 * b + c;
    a8 = a8 * b + c, a9 = a9 * b + c, a10 = a10 * b + c, a11 = a11 * b + c;
    __asm__ volatile("" : "+x"(a0), "+x"(a1), "+x"(a2), "+x"(a3), "+x"(a4), "+x"(a5));
    __asm__ volatile("" : "+x"(a6), "+x"(a7), "+x"(a8), "+x"(a9), "+x"(a10), "+x"(a11));
  }
  const Vector sum = a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11;
  return {sum[0] + sum[7], 8};
}
}  // namespace avx2
MCLREC_AVX2_END
#endif
namespace portable {
typedef float Vector __attribute__((vector_size(16)));
__attribute__((noinline)) Burst burst(float start) {
  const Vector b = Vector{} + 0.999f, c = Vector{} + 1e-4f;
  Vector a[kChains];
  for (int i = 0; i < kChains; ++i) a[i] = b * (start + static_cast<float>(i));
  for (long round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kChains; ++i) a[i] = a[i] * b + c;
  }
  Vector sum = a[0];
  for (int i = 1; i < kChains; ++i) sum += a[i];
  return {sum[0] + sum[3], 4};
}
}  // namespace portable
#else
namespace portable {
Burst burst(float start) {
  float a[kChains];
  for (int i = 0; i < kChains; ++i) a[i] = start + static_cast<float>(i);
  for (long round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kChains; ++i) a[i] = a[i] * 0.999f + 1e-4f;
  }
  float sum = 0.0f;
  for (int i = 0; i < kChains; ++i) sum += a[i];
  return {sum, 1};
}
}  // namespace portable
#endif

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
