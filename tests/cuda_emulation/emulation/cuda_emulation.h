// Enough of CUDA to run the kernels of csrc/cuda on a CPU, compiled by an ordinary C++17 compiler:
// the threads of a block are fibers, blocks run one after another. It finds missing and divergent
// barriers, uninitialised shared memory and (built with AddressSanitizer) accesses out of bounds.
// It is no GPU: it says nothing about speed, memory coalescing or data races between blocks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

// --- CUDA's own types ---------------------------------------------------------------------------

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

using cudaStream_t = void*;

namespace emulation {

// What a kernel does that a GPU would not forgive.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Which runnable thread of a block goes on next.
enum class Order { kForward, kReverse, kRandom };
void set_schedule(Order order, std::uint64_t seed);

// Kernels launched since the process started or since the last reset.
std::int64_t launches();
void reset_launches();

struct Site {
  const char* file;
  int line;
};

// One grid's shape, the bytes of dynamic shared memory and the stream (of no meaning here).
struct Launch {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes;
  cudaStream_t stream;
  Site site;
  Launch(dim3 grid_, dim3 block_, std::size_t shared_bytes_, cudaStream_t stream_,
         const char* file = __builtin_FILE(), int line = __builtin_LINE())
      : grid(grid_),
        block(block_),
        shared_bytes(shared_bytes_),
        stream(stream_),
        site{file, line} {}
};

void run_grid(const Launch& launch, void (*call)(void*), void* argument);

template <typename... Params, typename... Args>
void launch_kernel(const Launch& launch, void (*kernel)(Params...), const Args&... args) {
  std::tuple<Params...> values(static_cast<Params>(args)...);
  auto call = [&] { std::apply(kernel, values); };
  run_grid(launch, [](void* argument) { (*static_cast<decltype(call)*>(argument))(); }, &call);
}

// --- inside a kernel ----------------------------------------------------------------------------

struct ThreadView {
  uint3 thread;
  unsigned linear;  // the thread's number in its block
};
struct BlockView {
  uint3 block;
  dim3 grid;
  dim3 threads;
};
const ThreadView& this_thread();
const BlockView& this_block();

// Shared memory: the array behind `key` for this block, filled with 0xFF (NaN) at its start.
void* static_shared(const void* key, std::size_t bytes);
void* dynamic_shared();

void block_barrier(Site site);

// All 32 lanes of the warp deposit `bytes` each; everyone gets the 32 deposits, `stride` apart.
enum class Collective { kSync, kShuffle, kVote, kMatrix };
struct Deposits {
  const unsigned char* first;
  std::size_t stride;
  template <typename T>
  T of(unsigned lane) const {
    T value;
    std::memcpy(&value, first + lane * stride, sizeof(T));
    return value;
  }
};
Deposits warp_exchange(Collective kind, unsigned mask, const void* data, std::size_t bytes,
                       Site site);

// Asynchronous copies to shared memory. Depending on the schedule they land at once or only when
// they are waited for, so that neither a missing wait nor an overwritten buffer goes unseen.
void copy_async(void* shared, const void* global, int bytes, int valid_bytes);
void copy_commit();
void copy_wait(int groups_left_pending);

inline unsigned lane() { return this_thread().linear % 32; }

template <typename T>
T shuffle(unsigned mask, T value, unsigned source, unsigned width, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "32- and 64-bit shuffles only");
  const Deposits all = warp_exchange(Collective::kShuffle, mask, &value, sizeof(T), site);
  const unsigned group = lane() / width * width;
  if (source >= group + width || source < group) return value;
  return all.of<T>(source);
}

// Rounds to TF32 (10 bits of mantissa), nearest, ties away from zero: cvt.rna.tf32.f32.
inline std::uint32_t to_tf32(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7F800000u) == 0x7F800000u) return bits & 0xFFFFE000u;  // infinite or NaN
  return (bits + 0x1000u) & 0xFFFFE000u;
}

// Rounds two floats to bf16 (8 significant bits), nearest even, the first into the low half:
// cvt.rn.bf16x2.f32 with its operands in the other order.
inline std::uint32_t to_bf16_pair(float first, float second) {
  std::uint32_t halves[2];
  const float values[2] = {first, second};
  for (int i = 0; i < 2; ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, &values[i], 4);
    const bool special = (bits & 0x7F800000u) == 0x7F800000u;  // infinite or NaN
    if (values[i] != values[i]) bits = 0x7FFF0000u;
    halves[i] = (special ? bits : bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  }
  return halves[0] | halves[1] << 16;
}

inline float from_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32, lane by lane, with the fragment layout of
// the PTX manual (g = lane / 4, t = lane % 4):
//   a[0] (g, t)  a[1] (g + 8, t)  a[2] (g, t + 4)  a[3] (g + 8, t + 4)
//   b[0] (t, g)  b[1] (t + 4, g)
//   d[0] (g, 2t) d[1] (g, 2t + 1) d[2] (g + 8, 2t) d[3] (g + 8, 2t + 1)
// Sums run over k in order in float32; the hardware's order and rounding are its own.
inline void mma_m16n8k8_tf32(float d[4], const std::uint32_t a[4], const std::uint32_t b[2],
                             const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  struct Fragment {
    std::uint32_t a[4], b[2];
  } mine{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  for (std::uint32_t word : mine.a)
    if (word & 0x1FFFu) throw Error("mma: an operand of A is not rounded to TF32");
  for (std::uint32_t word : mine.b)
    if (word & 0x1FFFu) throw Error("mma: an operand of B is not rounded to TF32");
  const Deposits all =
      warp_exchange(Collective::kMatrix, 0xFFFFFFFFu, &mine, sizeof(mine), {file, line});
  const unsigned g = lane() / 4, t = lane() % 4;
  for (unsigned e = 0; e < 4; ++e) {
    const unsigned row = g + 8 * (e / 2), column = 2 * t + e % 2;
    for (unsigned k = 0; k < 8; ++k) {
      const Fragment holds_a = all.of<Fragment>((row % 8) * 4 + k % 4);
      const Fragment holds_b = all.of<Fragment>(column * 4 + k % 4);
      d[e] += from_bits(holds_a.a[row / 8 + 2 * (k / 4)]) * from_bits(holds_b.b[k / 4]);
    }
  }
}

// mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 in the same way: a register holds two
// neighbours along the depth, the first in its low half.
//   a[0] (g, 2t ..)  a[1] (g + 8, 2t ..)  a[2] (g, 2t + 8 ..)  a[3] (g + 8, 2t + 8 ..)
//   b[0] (2t .., g)  b[1] (2t + 8 .., g);  d as above
inline void mma_m16n8k16_bf16(float d[4], const std::uint32_t a[4], const std::uint32_t b[2],
                              const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  struct Fragment {
    std::uint32_t a[4], b[2];
  } mine{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const Deposits all =
      warp_exchange(Collective::kMatrix, 0xFFFFFFFFu, &mine, sizeof(mine), {file, line});
  const auto half = [](std::uint32_t pair, unsigned k) {
    return from_bits(k % 2 == 0 ? pair << 16 : pair & 0xFFFF0000u);
  };
  const unsigned g = lane() / 4, t = lane() % 4;
  for (unsigned e = 0; e < 4; ++e) {
    const unsigned row = g + 8 * (e / 2), column = 2 * t + e % 2;
    for (unsigned k = 0; k < 16; ++k) {
      const Fragment holds_a = all.of<Fragment>((row % 8) * 4 + k % 8 / 2);
      const Fragment holds_b = all.of<Fragment>(column * 4 + k % 8 / 2);
      d[e] += half(holds_a.a[row / 8 + 2 * (k / 8)], k) * half(holds_b.b[k / 8], k);
    }
  }
}

}  // namespace emulation

#define threadIdx (::emulation::this_thread().thread)
#define blockIdx (::emulation::this_block().block)
#define blockDim (::emulation::this_block().threads)
#define gridDim (::emulation::this_block().grid)

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  ::emulation::block_barrier({file, line});
}

inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  ::emulation::warp_exchange(::emulation::Collective::kSync, mask, nullptr, 0, {file, line});
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const unsigned group = ::emulation::lane() / width * width;
  return ::emulation::shuffle(mask, value, group + static_cast<unsigned>(source) % width, width,
                              {file, line});
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return ::emulation::shuffle(mask, value, ::emulation::lane() ^ static_cast<unsigned>(bits), width,
                              {file, line});
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return ::emulation::shuffle(mask, value, ::emulation::lane() - delta, width, {file, line});
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return ::emulation::shuffle(mask, value, ::emulation::lane() + delta, width, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  const unsigned char vote = predicate != 0;
  const auto all =
      ::emulation::warp_exchange(::emulation::Collective::kVote, mask, &vote, 1, {file, line});
  unsigned ballot = 0;
  for (unsigned i = 0; i < 32; ++i) ballot |= static_cast<unsigned>(all.of<unsigned char>(i)) << i;
  return ballot;
}

inline int __any_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                      int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}

inline int __all_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                      int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate, file, line) == 0xFFFFFFFFu;
}

// Threads never run at once, so an atomic is the plain operation; its order is the schedule's.
template <typename T>
T atomicAdd(T* address, std::common_type_t<T> value) {
  const T old = *address;
  *address = old + value;
  return old;
}

template <typename T>
T atomicMax(T* address, std::common_type_t<T> value) {
  const T old = *address;
  *address = std::max(old, static_cast<T>(value));
  return old;
}

template <typename T>
T atomicMin(T* address, std::common_type_t<T> value) {
  const T old = *address;
  *address = std::min(old, static_cast<T>(value));
  return old;
}

template <typename T>
T atomicCAS(T* address, std::common_type_t<T> expected, std::common_type_t<T> desired) {
  const T old = *address;
  if (old == static_cast<T>(expected)) *address = static_cast<T>(desired);
  return old;
}

template <typename T>
T __ldg(const T* address) {
  return *address;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
