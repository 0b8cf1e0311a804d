// The few spots where a kernel's source depends on who compiles it: nvcc for a GPU, or an ordinary
// C++ compiler with the emulation of tests/cuda_emulation (MCLREC_CUDA_EMULATION). Launching,
// shared memory, 16-byte loads, asynchronous copies, the tensor-core products.
#pragma once

#ifdef MCLREC_CUDA_EMULATION
#include "cuda_emulation.h"
#else
#include <cuda_runtime.h>
#endif

#include <cstddef>
#include <cstdint>

namespace mclrec::cuda {

// Dynamic shared memory beyond this must be asked for kernel by kernel.
inline constexpr std::size_t kDefaultSharedBytes = 48 * 1024;

#ifdef MCLREC_CUDA_EMULATION

using Launch = ::emulation::Launch;

template <typename... Params, typename... Args>
void launch(const Launch& shape, void (*kernel)(Params...), const Args&... args) {
  ::emulation::launch_kernel(shape, kernel, args...);
}

// MCLREC_SHARED(float, tile, [64][68]) declares `__shared__ float tile[64][68]`.
#define MCLREC_SHARED(type, name, ...)                    \
  using name##_shared_t = type __VA_ARGS__;               \
  static const char name##_shared_key = 0;                \
  name##_shared_t& name = *static_cast<name##_shared_t*>( \
      ::emulation::static_shared(&name##_shared_key, sizeof(name##_shared_t)))

#define MCLREC_DYNAMIC_SHARED(type, name) \
  type* name = static_cast<type*>(::emulation::dynamic_shared())

#else

// One grid's shape, the bytes of dynamic shared memory a block and the stream.
struct Launch {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes;
  cudaStream_t stream;
};

// A failed launch is found by take_launch_error() of status_cuda.h: kernels return nothing.
template <typename... Params, typename... Args>
void launch(const Launch& shape, void (*kernel)(Params...), const Args&... args) {
  if (shape.shared_bytes > kDefaultSharedBytes) {
    cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                         cudaFuncAttributeMaxDynamicSharedMemorySize,
                         static_cast<int>(shape.shared_bytes));
  }
  // clang-format off
  kernel<<<shape.grid, shape.block, shape.shared_bytes, shape.stream>>>(
      static_cast<Params>(args)...);
  // clang-format on
}

#define MCLREC_SHARED(type, name, ...) __shared__ type name __VA_ARGS__

#define MCLREC_DYNAMIC_SHARED(type, name)                                \
  extern __shared__ __align__(16) unsigned char mclrec_dynamic_shared[]; \
  type* name = reinterpret_cast<type*>(mclrec_dynamic_shared)

#endif

// How far loops over a thread's numbers are unrolled: fully in float, so that they stay in
// registers; not at all in double, which is for checking gradients and should compile in reasonable
// time. The emulation takes every instance; a build for GPUs takes only the widest of several in
// double.
template <typename Real>
inline constexpr int kUnroll = sizeof(Real) == 4 ? 16 : 1;
template <typename Real>
#ifdef MCLREC_CUDA_EMULATION
inline constexpr bool kWidestOnly = false;
#else
inline constexpr bool kWidestOnly = sizeof(Real) == 8;
#endif

inline constexpr unsigned kFullWarp = 0xFFFFFFFFu;
inline constexpr int kWarpSize = 32;

// --- four numbers at once -----------------------------------------------------------------------

template <typename Real>
struct Four {
  Real v[4];
};

template <typename Real>
__device__ __forceinline__ Four<Real> load_four(const Real* address);
template <>
__device__ __forceinline__ Four<float> load_four<float>(const float* address) {
  const float4 x = *reinterpret_cast<const float4*>(address);
  return {{x.x, x.y, x.z, x.w}};
}
template <>
__device__ __forceinline__ Four<double> load_four<double>(const double* address) {
  const double2 x = *reinterpret_cast<const double2*>(address);
  const double2 y = *reinterpret_cast<const double2*>(address + 2);
  return {{x.x, x.y, y.x, y.y}};
}

__device__ __forceinline__ void store_four(float* address, const Four<float>& x) {
  *reinterpret_cast<float4*>(address) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
}
__device__ __forceinline__ void store_four(double* address, const Four<double>& x) {
  *reinterpret_cast<double2*>(address) = make_double2(x.v[0], x.v[1]);
  *reinterpret_cast<double2*>(address + 2) = make_double2(x.v[2], x.v[3]);
}

// Four of the `count` numbers of a row from `first` on; those past the row's end read as 0. `wide`
// says that the row starts on a 16-byte boundary and `count` is a multiple of 4.
template <typename Real>
__device__ __forceinline__ Four<Real> load_row_four(const Real* row, int first, int count,
                                                    bool wide) {
  if (wide && first < count) return load_four(row + first);
  Four<Real> x;
  for (int i = 0; i < 4; ++i) x.v[i] = first + i < count ? row[first + i] : Real(0);
  return x;
}

template <typename Real>
__device__ __forceinline__ void store_row_four(Real* row, int first, int count, bool wide,
                                               const Four<Real>& x) {
  if (wide && first < count) {
    store_four(row + first, x);
    return;
  }
  for (int i = 0; i < 4; ++i) {
    if (first + i < count) row[first + i] = x.v[i];
  }
}

// --- asynchronous copies to shared memory -------------------------------------------------------

// Copies Bytes (4, 8 or 16; both addresses aligned to that) or, unless `valid`, writes zeros.
template <int Bytes>
__device__ __forceinline__ void copy_async(void* shared, const void* global, bool valid) {
#ifdef MCLREC_CUDA_EMULATION
  ::emulation::copy_async(shared, global, Bytes, valid ? Bytes : 0);
#else
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int source_bytes = valid ? Bytes : 0;
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(global),
                 "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;\n" ::"r"(address), "l"(global),
                 "n"(Bytes), "r"(source_bytes)
                 : "memory");
  }
#endif
}

__device__ __forceinline__ void copy_commit() {
#ifdef MCLREC_CUDA_EMULATION
  ::emulation::copy_commit();
#else
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// Waits until at most `Pending` of this thread's youngest groups are still under way.
template <int Pending>
__device__ __forceinline__ void copy_wait() {
#ifdef MCLREC_CUDA_EMULATION
  ::emulation::copy_wait(Pending);
#else
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Pending) : "memory");
#endif
}

// --- tensor cores -------------------------------------------------------------------------------

// The float's TF32 form, rounded to nearest (10 bits of mantissa).
__device__ __forceinline__ std::uint32_t to_tf32(float x) {
#ifdef MCLREC_CUDA_EMULATION
  return ::emulation::to_tf32(x);
#else
  std::uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(x));
  return bits;
#endif
}

// d += a b: 16 x 8 by 8 x 8, one warp. With g = lane / 4 and t = lane % 4 a lane holds
//   a[0] (g, t)  a[1] (g + 8, t)  a[2] (g, t + 4)  a[3] (g + 8, t + 4)
//   b[0] (t, g)  b[1] (t + 4, g)
//   d[0] (g, 2t) d[1] (g, 2t + 1) d[2] (g + 8, 2t) d[3] (g + 8, 2t + 1)
__device__ __forceinline__ void mma_tf32(float (&d)[4], const std::uint32_t (&a)[4],
                                         const std::uint32_t (&b)[2]) {
#ifdef MCLREC_CUDA_EMULATION
  ::emulation::mma_m16n8k8_tf32(d, a, b);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Two floats as bf16 (8 significant bits), rounded to nearest even: the first in the low half.
__device__ __forceinline__ std::uint32_t to_bf16_pair(float first, float second) {
#ifdef MCLREC_CUDA_EMULATION
  return ::emulation::to_bf16_pair(first, second);
#else
  std::uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(bits) : "f"(second), "f"(first));
  return bits;
#endif
}

// d += a b: 16 x 16 by 16 x 8, one warp, pairs of bf16. With g and t as above a lane holds
//   a[0] (g, 2t .. 2t + 1)  a[1] (g + 8, 2t ..)  a[2] (g, 2t + 8 ..)  a[3] (g + 8, 2t + 8 ..)
//   b[0] (2t .. 2t + 1, g)  b[1] (2t + 8 .., g)
// and d as above.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const std::uint32_t (&a)[4],
                                         const std::uint32_t (&b)[2]) {
#ifdef MCLREC_CUDA_EMULATION
  ::emulation::mma_m16n8k16_bf16(d, a, b);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// --- mathematics, by type -----------------------------------------------------------------------

// For arguments up to about 0 (a maximum has been subtracted): the fast exponential's relative
// error, 2^-24 |x|, then meets a factor exp(x).
__device__ __forceinline__ float exp_of(float x) {
#ifdef MCLREC_CUDA_EMULATION
  return expf(x);
#else
  return __expf(x);
#endif
}
__device__ __forceinline__ double exp_of(double x) { return exp(x); }
__device__ __forceinline__ float log_of(float x) { return logf(x); }
__device__ __forceinline__ double log_of(double x) { return log(x); }
__device__ __forceinline__ float erf_of(float x) { return erff(x); }
__device__ __forceinline__ double erf_of(double x) { return erf(x); }
__device__ __forceinline__ float sqrt_of(float x) { return sqrtf(x); }
__device__ __forceinline__ double sqrt_of(double x) { return sqrt(x); }
__device__ __forceinline__ float fma_of(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fma_of(double a, double b, double c) { return fma(a, b, c); }

template <typename Real>
__device__ __forceinline__ Real infinity() {
  return static_cast<Real>(HUGE_VAL);
}

// --- reductions over lanes ----------------------------------------------------------------------

// Sum over each group of Width neighbouring lanes, the same bits in all of them.
template <int Width, typename Real>
__device__ __forceinline__ Real group_sum(Real x) {
  for (int step = Width / 2; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
}

template <int Width, typename Real>
__device__ __forceinline__ Real group_max(Real x) {
  for (int step = Width / 2; step > 0; step /= 2) {
    const Real other = __shfl_xor_sync(kFullWarp, x, step);
    x = other > x ? other : x;
  }
  return x;
}

// How many blocks of `block` elements hold `count`; at least one, so that a grid is never empty.
inline unsigned blocks_for(std::int64_t count, std::int64_t block) {
  return count <= 0 ? 1u : static_cast<unsigned>((count + block - 1) / block);
}

}  // namespace mclrec::cuda
