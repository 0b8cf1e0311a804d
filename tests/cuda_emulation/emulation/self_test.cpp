// Small kernels, some right and some with a planted mistake, that show what the emulation notices.
// Called from tests/cuda_emulation/test_emulator.py through the C functions at the end.
#include <cstdio>
#include <functional>
#include <map>
#include <string>

#include "portable.cuh"

using namespace mclrec::cuda;

namespace {

constexpr int kThreads = 64;

// --- block barriers -----------------------------------------------------------------------------

// out[i] = in[kThreads - 1 - i], twice over; `kFirst` and `kSecond` are the two barriers it needs.
template <bool kFirst, bool kSecond>
__global__ void reverse_kernel(const float* in, float* out) {
  MCLREC_SHARED(float, tile, [kThreads]);
  const int i = static_cast<int>(threadIdx.x);
  for (int round = 0; round < 2; ++round) {
    tile[i] = in[round * kThreads + i];
    if (kFirst) __syncthreads();
    out[round * kThreads + i] = tile[kThreads - 1 - i];
    if (kSecond) __syncthreads();
  }
}

__global__ void barrier_in_branch_kernel(const float* in, float* out) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < kThreads / 2) __syncthreads();
  out[i] = in[i];
}

__global__ void two_barriers_kernel(const float* in, float* out) {
  const int i = static_cast<int>(threadIdx.x);
  if (i % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[i] = in[i];
}

__global__ void early_return_kernel(const float* in, float* out) {
  const int i = static_cast<int>(threadIdx.x);
  if (i == 7) return;
  __syncthreads();
  out[i] = in[i];
}

// --- warps --------------------------------------------------------------------------------------

// out[i] = sum of the warp's inputs, by shuffles.
__global__ void warp_sum_kernel(const float* in, float* out) {
  const int i = static_cast<int>(threadIdx.x);
  out[i] = group_sum<kWarpSize>(in[i]);
}

// out[i] = ballot bits, a shuffle from below and from within groups of four.
__global__ void collectives_kernel(const float* in, float* out) {
  const int i = static_cast<int>(threadIdx.x);
  const unsigned votes = __ballot_sync(kFullWarp, in[i] > 0.0f);
  const float below = __shfl_up_sync(kFullWarp, in[i], 1);
  const float above = __shfl_down_sync(kFullWarp, in[i], 2);
  const float third = __shfl_sync(kFullWarp, in[i], 3, 4);
  const bool any = __any_sync(kFullWarp, in[i] > 1e6f), all = __all_sync(kFullWarp, in[i] < 1e6f);
  out[i] = static_cast<float>(__popc(votes)) + 100.0f * below + 1e4f * above + 1e6f * third +
           (any ? 1e9f : 0.0f) + (all ? 0.0f : 1e9f);
}

__global__ void shuffle_in_branch_kernel(const float* in, float* out) {
  const int i = static_cast<int>(threadIdx.x);
  float x = in[i];
  if (i % 32 < 16) x = __shfl_xor_sync(kFullWarp, x, 1);
  out[i] = x;
}

// Lanes hand numbers on through shared memory; the warp barrier between is needed.
template <bool kBarrier>
__global__ void warp_exchange_kernel(const float* in, float* out) {
  MCLREC_SHARED(float, tile, [kThreads]);
  const int i = static_cast<int>(threadIdx.x);
  tile[i] = in[i];
  if (kBarrier) __syncwarp();
  out[i] = tile[i / 32 * 32 + (i + 5) % 32];
}

// --- bounds and tails ---------------------------------------------------------------------------

__global__ void shared_overrun_kernel(const float* in, float* out) {
  MCLREC_SHARED(float, tile, [kThreads]);
  const int i = static_cast<int>(threadIdx.x);
  tile[i + 1] = in[i];
  __syncthreads();
  out[i] = tile[(i + 1) % kThreads];
}

// out[0] = sum of in[0 .. count), by a block that reads kThreads numbers at a time.
template <bool kMask>
__global__ void tail_sum_kernel(const float* in, int count, float* out) {
  MCLREC_SHARED(float, tile, [kThreads]);
  const int i = static_cast<int>(threadIdx.x);
  float sum = 0.0f;
  for (int first = 0; first < count; first += kThreads) {
    sum += kMask && first + i >= count ? 0.0f : in[first + i];
  }
  tile[i] = sum;
  __syncthreads();
  if (i != 0) return;
  for (int j = 1; j < kThreads; ++j) sum += tile[j];
  out[0] = sum;
}

// --- asynchronous copies ------------------------------------------------------------------------

// Doubles in[] by way of two shared buffers in turn; without the wait, or without the barrier that
// keeps a buffer until it has been read, numbers are lost.
template <bool kWait, bool kKeep>
__global__ void pipeline_kernel(const float* in, int rounds, float* out) {
  MCLREC_DYNAMIC_SHARED(float, buffers);
  const int i = static_cast<int>(threadIdx.x);
  copy_async<4>(buffers + i, in + i, true);
  copy_commit();
  for (int round = 0; round < rounds; ++round) {
    const bool more = round + 1 < rounds;
    copy_async<4>(buffers + (round + 1) % 2 * kThreads + i,
                  in + (more ? (round + 1) * kThreads + i : 0), more);
    copy_commit();
    if (kWait) copy_wait<1>();
    __syncthreads();
    out[round * kThreads + i] = 2.0f * buffers[round % 2 * kThreads + (i + 1) % kThreads];
    if (kKeep) __syncthreads();
  }
  copy_wait<0>();
}

// --- tensor cores -------------------------------------------------------------------------------

// d = a b for a 16 x 8, b 8 x 8, row-major; `kSwap` loads A's second and third register in each
// other's place, the classic mistake.
template <bool kSwap, bool kRound>
__global__ void mma_kernel(const float* a, const float* b, float* d) {
  const int g = static_cast<int>(threadIdx.x) % 32 / 4, t = static_cast<int>(threadIdx.x) % 4;
  const auto prepare = [](float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return kRound ? to_tf32(x) : bits;
  };
  std::uint32_t left[4] = {prepare(a[g * 8 + t]), prepare(a[(g + 8) * 8 + t]),
                           prepare(a[g * 8 + t + 4]), prepare(a[(g + 8) * 8 + t + 4])};
  if (kSwap) std::swap(left[1], left[2]);
  const std::uint32_t right[2] = {prepare(b[t * 8 + g]), prepare(b[(t + 4) * 8 + g])};
  float result[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  mma_tf32(result, left, right);
  if (threadIdx.x >= 32) return;
  for (int e = 0; e < 4; ++e) d[(g + 8 * (e / 2)) * 8 + 2 * t + e % 2] = result[e];
}

// d = a b for a 16 x 16, b 16 x 8, row-major, in bf16; `kSwap` takes each pair of neighbours along
// A's depth in the wrong order.
template <bool kSwap>
__global__ void mma_bf16_kernel(const float* a, const float* b, float* d) {
  const int g = static_cast<int>(threadIdx.x) % 32 / 4, t = static_cast<int>(threadIdx.x) % 4;
  const auto of_a = [&](int row, int k) {
    return kSwap ? to_bf16_pair(a[row * 16 + k + 1], a[row * 16 + k])
                 : to_bf16_pair(a[row * 16 + k], a[row * 16 + k + 1]);
  };
  const auto of_b = [&](int k) { return to_bf16_pair(b[k * 8 + g], b[(k + 1) * 8 + g]); };
  const std::uint32_t left[4] = {of_a(g, 2 * t), of_a(g + 8, 2 * t), of_a(g, 2 * t + 8),
                                 of_a(g + 8, 2 * t + 8)};
  const std::uint32_t right[2] = {of_b(2 * t), of_b(2 * t + 8)};
  float result[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  mma_bf16(result, left, right);
  if (threadIdx.x >= 32) return;
  for (int e = 0; e < 4; ++e) d[(g + 8 * (e / 2)) * 8 + 2 * t + e % 2] = result[e];
}

// Every number as bf16 and back.
__global__ void bf16_kernel(const float* in, float* out) {
  const std::uint32_t bits = to_bf16_pair(0.0f, in[threadIdx.x]);
  std::memcpy(out + threadIdx.x, &bits, 4);
}

// --- grids --------------------------------------------------------------------------------------

// Every thread of a 3-dimensional grid and block counts itself and leaves its address.
__global__ void grid_kernel(float* out, int* count) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] = static_cast<float>(block * threads + thread);
  atomicAdd(count, 1);
}

// --- what Python calls --------------------------------------------------------------------------

struct Arguments {
  const float* in;
  float* out;
  int count;
};

// Every kernel by name; the return value is the kernel's count, if it has one.
int run(const std::string& name, const Arguments& a) {
  const Launch block({1, kThreads, 0, nullptr});
  const Launch buffers({1, kThreads, 2 * kThreads * sizeof(float), nullptr});
  const int rounds = a.count / kThreads;
  int count = 0;
  const std::map<std::string, std::function<void()>> kernels = {
      {"reverse", [&] { launch(block, reverse_kernel<true, true>, a.in, a.out); }},
      {"reverse_missing_first_barrier",
       [&] { launch(block, reverse_kernel<false, true>, a.in, a.out); }},
      {"reverse_missing_second_barrier",
       [&] { launch(block, reverse_kernel<true, false>, a.in, a.out); }},
      {"barrier_in_branch", [&] { launch(block, barrier_in_branch_kernel, a.in, a.out); }},
      {"two_barriers", [&] { launch(block, two_barriers_kernel, a.in, a.out); }},
      {"early_return", [&] { launch(block, early_return_kernel, a.in, a.out); }},
      {"warp_sum", [&] { launch(block, warp_sum_kernel, a.in, a.out); }},
      {"collectives", [&] { launch(block, collectives_kernel, a.in, a.out); }},
      {"shuffle_in_branch", [&] { launch(block, shuffle_in_branch_kernel, a.in, a.out); }},
      {"warp_exchange", [&] { launch(block, warp_exchange_kernel<true>, a.in, a.out); }},
      {"warp_exchange_missing_barrier",
       [&] { launch(block, warp_exchange_kernel<false>, a.in, a.out); }},
      {"shared_overrun", [&] { launch(block, shared_overrun_kernel, a.in, a.out); }},
      {"tail_sum", [&] { launch(block, tail_sum_kernel<true>, a.in, a.count, a.out); }},
      {"tail_sum_missing_mask",
       [&] { launch(block, tail_sum_kernel<false>, a.in, a.count, a.out); }},
      {"pipeline", [&] { launch(buffers, pipeline_kernel<true, true>, a.in, rounds, a.out); }},
      {"pipeline_missing_wait",
       [&] { launch(buffers, pipeline_kernel<false, true>, a.in, rounds, a.out); }},
      {"pipeline_missing_barrier",
       [&] { launch(buffers, pipeline_kernel<true, false>, a.in, rounds, a.out); }},
      {"mma", [&] { launch(block, mma_kernel<false, true>, a.in, a.in + 128, a.out); }},
      {"mma_swapped", [&] { launch(block, mma_kernel<true, true>, a.in, a.in + 128, a.out); }},
      {"mma_unrounded", [&] { launch(block, mma_kernel<false, false>, a.in, a.in + 128, a.out); }},
      {"mma_bf16", [&] { launch(block, mma_bf16_kernel<false>, a.in, a.in + 256, a.out); }},
      {"mma_bf16_swapped", [&] { launch(block, mma_bf16_kernel<true>, a.in, a.in + 256, a.out); }},
      {"bf16", [&] { launch(block, bf16_kernel, a.in, a.out); }},
      {"dynamic_not_asked_for",
       [&] { launch(block, pipeline_kernel<true, true>, a.in, rounds, a.out); }},
      {"half_a_warp",
       [&] { launch({1, 48, 0, nullptr}, reverse_kernel<true, true>, a.in, a.out); }},
      {"grid",
       [&] { launch({dim3(3, 2, 2), dim3(8, 4, 2), 0, nullptr}, grid_kernel, a.out, &count); }},
  };
  kernels.at(name)();
  return count;
}

}  // namespace

extern "C" {

// Returns the kernel's count, or -1 with what went wrong in `message`.
int mclrec_self_test(const char* name, const float* in, float* out, int count, char* message,
                     int message_bytes) {
  try {
    return run(name, {in, out, count});
  } catch (const std::exception& error) {
    std::snprintf(message, static_cast<std::size_t>(message_bytes), "%s", error.what());
    return -1;
  }
}

}  // extern "C"
