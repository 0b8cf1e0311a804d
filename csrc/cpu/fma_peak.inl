// The loop of fma_peak.cpp, compiled once per instruction set: chains of dependent multiply-adds
// that start from different values and pass through an empty asm every round, so that the compiler
// can neither merge them nor fold rounds together.
#include "simd.inl"

inline __attribute__((noinline)) Burst burst(float start) {
  const Vec<float> b = broadcast(0.999f), c = broadcast(1e-4f);
  Vec<float> a[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) a[i] = b * (start + static_cast<float>(i));
  for (long round = 0; round < kRounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) a[i] = fma(a[i], b, c);
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) MCLREC_KEEP(a[i]);
  }
  Vec<float> sum = a[0];
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) sum += a[i];
  return {lane_sum<float>(sum), kLanes<float>};
}
