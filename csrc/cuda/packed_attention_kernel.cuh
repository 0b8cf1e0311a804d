// Causal attention over packed sequences with invisible keys and dropout of the probabilities,
// forward and backward. A block takes one (sequence, head); its four warps take queries (or, for
// the gradients of keys and values, keys) in turn, a lane a key.
//
// At 768 sequences of mean length 8 (at most 50), 2 heads of 32: 5 MFLOP and 5 MB, far below
// anything; what counts is the longest sequence's serial work: 50 / 4 queries of two steps of 32
// keys each, some 3 us on sm_90. That is why several warps share a sequence, and why there are no
// 64- or 128-row tiles, which would be 85 % padding. Keys and values are read from L1: 50 rows of
// 128 bytes.
//
// Softmax online over steps of 32 keys; only its log-sum-exp is kept, and the backward pass
// recomputes the probabilities. Each gradient row is written by one warp: no atomics.
#pragma once

#include "norm_kernel.cuh"
#include "packed_attention_cuda.h"

namespace mclrec::cuda {

inline constexpr int kAttentionThreads = 128;
inline constexpr int kAttentionWarps = kAttentionThreads / kWarpSize;

// One sequence and head: pointers to its first token's rows.
template <typename Real>
struct AttentionSite {
  int n, head;
  std::uint32_t sequence;
  std::int64_t begin;
  bool wide;
  const Attention<Real>& job;
  Dropout dropout;

  __device__ __forceinline__ AttentionSite(const Attention<Real>& job_, std::int64_t block)
      : job(job_), dropout(job_.dropout.read()) {
    sequence = static_cast<std::uint32_t>(block / job.heads);
    head = static_cast<int>(block % job.heads);
    const Span span = span_of(job.offsets, job.capacity, sequence);
    begin = span.begin;
    n = span.end - span.begin;
    wide = job.size % 4 == 0 && job.stride % 4 == 0 &&
           reinterpret_cast<std::uintptr_t>(job.query) % 16 == 0 &&
           reinterpret_cast<std::uintptr_t>(job.key) % 16 == 0 &&
           reinterpret_cast<std::uintptr_t>(job.value) % 16 == 0;
  }
  // Row of token `i` of an array laid out as the queries, and of one laid out as the output.
  __device__ __forceinline__ const Real* row(const Real* array, int i) const {
    return array + (begin + i) * job.stride + static_cast<std::int64_t>(head) * job.size;
  }
  __device__ __forceinline__ std::int64_t out_row(int i) const {
    return ((begin + i) * job.heads + head) * static_cast<std::int64_t>(job.size);
  }
  __device__ __forceinline__ std::int64_t scalar(int i) const {
    return (begin + i) * job.heads + head;
  }
  __device__ __forceinline__ bool visible(int j) const {
    return (job.visible == nullptr || job.visible[begin + j]) &&
           (job.items == nullptr || job.items[begin + j] != 0);
  }
  __device__ __forceinline__ bool kept(int i, int j) const {
    const std::uint64_t padded = (static_cast<std::uint64_t>(n) + 31) / 32 * 32;
    const std::uint64_t row =
        static_cast<std::uint64_t>(head) * static_cast<std::uint64_t>(n) + static_cast<unsigned>(i);
    return keeps(dropout, sequence, row * padded + static_cast<unsigned>(j));
  }
};

// Four chains of additions side by side: less to wait for, and half the rounding of one.
template <typename Real>
__device__ __forceinline__ Real dot_rows(const Real* a, const Real* b, int size, bool wide) {
  Four<Real> sum = {};
  for (int d = 0; d < size; d += 4) {
    const Four<Real> x = load_row_four(a, d, size, wide), y = load_row_four(b, d, size, wide);
#pragma unroll kUnroll < Real>
    for (int i = 0; i < 4; ++i) sum.v[i] = fma_of(x.v[i], y.v[i], sum.v[i]);
  }
  return (sum.v[0] + sum.v[1]) + (sum.v[2] + sum.v[3]);
}

// A vector spread over the lanes: lane l holds numbers l, l + 32, ...
template <typename Real, int kParts>
struct LaneVector {
  Real part[kParts] = {};

  // += weight * row.
  __device__ __forceinline__ void add(Real weight, const Real* row, int size) {
#pragma unroll kUnroll < Real>
    for (int p = 0; p < kParts; ++p) {
      const int d = lane_index() + p * kWarpSize;
      if (d < size) part[p] = fma_of(weight, row[d], part[p]);
    }
  }
  __device__ __forceinline__ void scale(Real factor) {
#pragma unroll kUnroll < Real>
    for (int p = 0; p < kParts; ++p) part[p] *= factor;
  }
  __device__ __forceinline__ void store(Real* row, int size) const {
#pragma unroll kUnroll < Real>
    for (int p = 0; p < kParts; ++p) {
      const int d = lane_index() + p * kWarpSize;
      if (d < size) row[d] = part[p];
    }
  }
};

// Sum over a row of a[d] b[d], the same in all lanes.
template <typename Real>
__device__ __forceinline__ Real warp_dot(const Real* a, const Real* b, int size) {
  Real sum = Real(0);
  for (int d = lane_index(); d < size; d += kWarpSize) sum = fma_of(a[d], b[d], sum);
  return group_sum<kWarpSize>(sum);
}

// Grid: sequences x heads.
template <typename Real, int kParts>
__global__ void __launch_bounds__(kAttentionThreads) packed_attention_kernel(Attention<Real> job) {
  const AttentionSite<Real> site(job, blockIdx.x);
  const Real scale = Real(1) / sqrt_of(static_cast<Real>(job.size));
  const Real drop_scale = static_cast<Real>(job.dropout.scale);
  for (int i = warp_index(); i < site.n; i += kAttentionWarps) {
    LaneVector<Real, kParts> out;
    Real max = -infinity<Real>(), sum = Real(0);
    for (int first = 0; first <= i; first += kWarpSize) {
      const int j = first + lane_index();
      const bool in = j <= i && site.visible(j);
      Real s = -infinity<Real>();
      if (in)
        s = scale * dot_rows(site.row(job.query, i), site.row(job.key, j), job.size, site.wide);
      const Real step_max = group_max<kWarpSize>(s);
      const Real next = step_max > max ? step_max : max;
      const Real shrink = next == max ? Real(1) : exp_of(max - next);
      const Real p = in ? exp_of(s - next) : Real(0);
      max = next;
      sum = sum * shrink + group_sum<kWarpSize>(p);
      out.scale(shrink);
      const Real dropped = in && site.kept(i, j) ? drop_scale * p : Real(0);
      for (int k = 0; k < kWarpSize && first + k <= i; ++k) {
        out.add(__shfl_sync(kFullWarp, dropped, k), site.row(job.value, first + k), job.size);
      }
    }
    // No visible key: the sum is 0, and so is the output.
    if (sum != Real(0)) out.scale(Real(1) / sum);
    out.store(job.out + site.out_row(i), job.size);
    if (lane_index() == 0) job.lse[site.scalar(i)] = max + log_of(sum);
  }
}

// What the backward pass needs of one (query, key): the probability P, without and with its dropout
// factor M, and the gradient of P. With delta_i = sum_j P_ij dP_ij:
//   dP_ij = M_ij dO_i . V_j,  d loss / d (q . k)_ij = scale P_ij (dP_ij - delta_i)
// delta_i is dO_i . O_i as well, but summed like this it leaves exactly 0 where there is one key.
template <typename Real>
struct PairGradient {
  Real p = Real(0), dropped = Real(0), grad_p = Real(0);

  PairGradient() = default;
  __device__ __forceinline__ PairGradient(const AttentionSite<Real>& site, const Real* grad_out,
                                          int i, int j, Real lse, Real scale) {
    const Attention<Real>& job = site.job;
    const Real s =
        scale * dot_rows(site.row(job.query, i), site.row(job.key, j), job.size, site.wide);
    p = exp_of(s - lse);
    const Real factor = site.kept(i, j) ? static_cast<Real>(job.dropout.scale) : Real(0);
    const bool wide = site.wide && reinterpret_cast<std::uintptr_t>(grad_out) % 16 == 0;
    grad_p = factor * dot_rows(grad_out + site.out_row(i), site.row(job.value, j), job.size, wide);
    dropped = factor * p;
  }
  __device__ __forceinline__ Real score(Real delta, Real scale) const {
    return p * (grad_p - delta) * scale;
  }
};

// Grid: sequences x heads.
template <typename Real, int kParts>
__global__ void __launch_bounds__(kAttentionThreads)
    packed_attention_backward_kernel(AttentionBackward<Real> job) {
  const Attention<Real>& forward = job.forward;
  const AttentionSite<Real> site(forward, blockIdx.x);
  const int size = forward.size;
  const Real scale = Real(1) / sqrt_of(static_cast<Real>(size));
  const auto grad_row = [&](Real* array, int i) {
    return array + (site.begin + i) * job.grad_stride + static_cast<std::int64_t>(site.head) * size;
  };

  // dQ_i = sum_j dS_ij K_j: a warp a query, a lane a key. Up to 32 keys are met once, more twice.
  for (int i = warp_index(); i < site.n; i += kAttentionWarps) {
    const Real lse = forward.lse[site.scalar(i)];
    const auto pair_of = [&](int j) {
      return j <= i && site.visible(j) ? PairGradient<Real>(site, job.grad_out, i, j, lse, scale)
                                       : PairGradient<Real>();
    };
    PairGradient<Real> pair;
    Real delta = Real(0);
    for (int j = lane_index(); j - lane_index() <= i; j += kWarpSize) {
      pair = pair_of(j);
      delta = fma_of(pair.p, pair.grad_p, delta);
    }
    delta = group_sum<kWarpSize>(delta);
    if (lane_index() == 0) job.delta[site.scalar(i)] = delta;
    LaneVector<Real, kParts> grad_query;
    for (int first = 0; first <= i; first += kWarpSize) {
      if (i >= kWarpSize) pair = pair_of(first + lane_index());
      const Real score = pair.score(delta, scale);
      for (int k = 0; k < kWarpSize && first + k <= i; ++k) {
        grad_query.add(__shfl_sync(kFullWarp, score, k), site.row(forward.key, first + k), size);
      }
    }
    grad_query.store(grad_row(job.grad_query, i), size);
  }
  __syncthreads();

  // dK_j = sum_i dS_ij Q_i and dV_j = sum_i M_ij P_ij dO_i: a warp a key, a lane a query.
  for (int j = warp_index(); j < site.n; j += kAttentionWarps) {
    LaneVector<Real, kParts> grad_key, grad_value;
    const int end = site.visible(j) ? site.n : j;
    for (int first = j; first < end; first += kWarpSize) {
      const int i = first + lane_index();
      Real score = Real(0), dropped = Real(0);
      if (i < site.n) {
        const PairGradient<Real> pair(site, job.grad_out, i, j, forward.lse[site.scalar(i)], scale);
        score = pair.score(job.delta[site.scalar(i)], scale);
        dropped = pair.dropped;
      }
      for (int k = 0; k < kWarpSize && first + k < end; ++k) {
        grad_key.add(__shfl_sync(kFullWarp, score, k), site.row(forward.query, first + k), size);
        grad_value.add(__shfl_sync(kFullWarp, dropped, k), job.grad_out + site.out_row(first + k),
                       size);
      }
    }
    grad_key.store(grad_row(job.grad_key, j), size);
    grad_value.store(grad_row(job.grad_value, j), size);
  }
}

}  // namespace mclrec::cuda
