// The encoder's last layer needs one query a sequence: its attention with absorbed keys and values,
// u_h = W_k,h^T q_h, score_j = u_h . x_j / sqrt(d), context_h = W_v,h y_h + b_v,h mass_h. Also the
// rows of last tokens, and the gradients of both embedding tables.
//
// Attention at 768 sequences of mean length 8, D = 64, 2 heads: 4 D FLOP a token and head, 2.4
// MFLOP; 1.2 MB of x. Bound by the longest sequence's latency (two steps of 32 keys, about 2 us).
// One warp a (sequence, head); backward, one block a sequence, so that a token's gradient is summed
// over the heads by one warp.
//
// Gradients of the tables are sums over tokens in token order, without atomics. Items: each item's
// first token looks through the batch for the others, T steps of 32 tokens for each distinct
// item, 3.5 M warp instructions at T = 4 600 (4 us on sm_90), one launch; beyond 65 536 tokens of
// capacity a stable sort comes first. Positions: eight warps a position, each a fixed part of the
// tokens.
#pragma once

#include "last_token_cuda.h"
#include "packed_attention_kernel.cuh"
#include "strip.cuh"

namespace mclrec::cuda {

inline constexpr int kLastThreads = 128;
inline constexpr int kLastWarps = kLastThreads / kWarpSize;

template <typename Real>
struct LastSite {
  int n;
  std::int64_t begin;
  std::uint32_t sequence;
  const LastToken<Real>& job;
  Dropout dropout;

  __device__ __forceinline__ LastSite(const LastToken<Real>& job_, std::int64_t sequence_)
      : sequence(static_cast<std::uint32_t>(sequence_)), job(job_), dropout(job_.dropout.read()) {
    const Span span = span_of(job.packed.offsets, job.packed.capacity, sequence_);
    begin = span.begin;
    n = span.end - span.begin;
  }
  __device__ __forceinline__ bool visible(int j) const {
    return j < n && job.packed.items[begin + j] != 0;
  }
  __device__ __forceinline__ const Real* token(int j) const {
    return job.x + (begin + j) * job.hidden;
  }
  __device__ __forceinline__ std::int64_t pair(int head) const {
    return static_cast<std::int64_t>(sequence) * job.heads + head;
  }
  __device__ __forceinline__ std::int64_t scalar(int j, int head) const {
    return (begin + j) * job.heads + head;
  }
  __device__ __forceinline__ bool kept(int head, int j) const {
    const std::uint64_t count = static_cast<std::uint64_t>(n), padded = (count + 31) / 32 * 32;
    const std::uint64_t row = static_cast<std::uint64_t>(head) * count + count - 1;
    return keeps(dropout, sequence, row * padded + static_cast<unsigned>(j));
  }
};

// Grid: sequences x heads, kLastWarps a block.
template <typename Real, int kParts>
__global__ void __launch_bounds__(kLastThreads) last_token_kernel(LastToken<Real> job) {
  const std::int64_t pair = static_cast<std::int64_t>(blockIdx.x) * kLastWarps + warp_index();
  if (pair >= job.packed.sequences * job.heads) return;
  const int head = static_cast<int>(pair % job.heads), hidden = job.hidden;
  const LastSite<Real> site(job, pair / job.heads);
  const Real scale = Real(1) / sqrt_of(static_cast<Real>(hidden / job.heads));
  const Real drop_scale = static_cast<Real>(job.dropout.scale);
  const Real* u = job.u + pair * hidden;

  LogSumExp<Real> lse;
  for (int j = lane_index(); j < site.n; j += kWarpSize) {
    if (!site.visible(j)) continue;
    const Real s = scale * dot_rows(u, site.token(j), hidden, hidden % 4 == 0);
    job.scores[site.scalar(j, head)] = s;
    lse.raise(s);
    lse.add(s);
  }
#pragma unroll
  for (int step = 1; step < kWarpSize; step *= 2) {
    const Real other_max = __shfl_xor_sync(kFullWarp, lse.max, step);
    const Real other_sum = __shfl_xor_sync(kFullWarp, lse.sum, step);
    lse.merge(other_max, other_sum);
  }
  // One lane's value for all: sums taken in another order may differ in the last bit.
  const Real total = __shfl_sync(kFullWarp, lse.value(), 0);

  LaneVector<Real, kParts> mixture;
  Real mass = Real(0);
  for (int first = 0; first < site.n; first += kWarpSize) {
    const int j = first + lane_index();
    Real p = Real(0);
    if (site.visible(j) && site.kept(head, j)) {
      p = drop_scale * exp_of(job.scores[site.scalar(j, head)] - total);
    }
    mass += p;
    for (int k = 0; k < kWarpSize && first + k < site.n; ++k) {
      mixture.add(__shfl_sync(kFullWarp, p, k), site.token(first + k), hidden);
    }
  }
  mass = group_sum<kWarpSize>(mass);
  mixture.store(job.mixture + pair * hidden, hidden);
  if (lane_index() != 0) return;
  job.lse[pair] = total;
  job.mass[pair] = mass;
}

// With p_j the probabilities and m_j the dropout factors, g_j = m_j (dy . x_j + dmass):
//   dscore_j = p_j (g_j - sum_k p_k g_k),  du = sum_j dscore_j x_j,
//   dx_j = sum_h dscore_j u_h + m_j p_j dy_h.
// Grid: sequences.
template <typename Real, int kParts>
__global__ void __launch_bounds__(kLastThreads)
    last_token_backward_kernel(LastTokenBackward<Real> job) {
  const LastToken<Real>& forward = job.forward;
  const LastSite<Real> site(forward, blockIdx.x);
  const int hidden = forward.hidden, size = hidden / forward.heads;
  const Real scale = Real(1) / sqrt_of(static_cast<Real>(size));
  const Real drop_scale = static_cast<Real>(forward.dropout.scale);

  for (int head = warp_index(); head < forward.heads; head += kLastWarps) {
    const std::int64_t pair = site.pair(head);
    const Real* grad_mixture = job.grad_mixture + pair * hidden;
    const Real grad_mass =
        warp_dot(job.grad_context + static_cast<std::int64_t>(site.sequence) * hidden + head * size,
                 job.value_bias + head * size, size);
    const Real lse = forward.lse[pair];
    Real mean = Real(0);
    for (int j = lane_index(); j < site.n; j += kWarpSize) {
      const std::int64_t at = site.scalar(j, head);
      Real p = Real(0), grad = Real(0), factor = Real(0);
      if (site.visible(j)) {
        p = exp_of(forward.scores[at] - lse);
        factor = site.kept(head, j) ? drop_scale : Real(0);
        grad =
            factor * (dot_rows(grad_mixture, site.token(j), hidden, hidden % 4 == 0) + grad_mass);
      }
      mean += p * grad;
      job.grad_scores[at] = grad;
      job.dropped[at] = factor * p;
    }
    mean = group_sum<kWarpSize>(mean);
    LaneVector<Real, kParts> grad_u;
    for (int first = 0; first < site.n; first += kWarpSize) {
      const int j = first + lane_index();
      const std::int64_t at = site.scalar(j, head);
      Real score = Real(0);
      if (site.visible(j)) {
        score = exp_of(forward.scores[at] - lse) * (job.grad_scores[at] - mean) * scale;
      }
      if (j < site.n) job.grad_scores[at] = score;
      for (int k = 0; k < kWarpSize && first + k < site.n; ++k) {
        grad_u.add(__shfl_sync(kFullWarp, score, k), site.token(first + k), hidden);
      }
    }
    grad_u.store(job.grad_u + pair * hidden, hidden);
  }
  __syncthreads();

  for (int j = warp_index(); j < site.n; j += kLastWarps) {
    LaneVector<Real, kParts> grad_x;
    for (int head = 0; head < forward.heads; ++head) {
      const std::int64_t at = site.scalar(j, head), pair = site.pair(head);
      grad_x.add(job.grad_scores[at], forward.u + pair * hidden, hidden);
      grad_x.add(job.dropped[at], job.grad_mixture + pair * hidden, hidden);
    }
    grad_x.store(job.grad_x + (site.begin + j) * hidden, hidden);
  }
}

// --- rows of last tokens ------------------------------------------------------------------------

template <typename Real, bool kAdd>
__global__ void __launch_bounds__(kLastThreads)
    last_rows_kernel(Packed packed, int hidden, Real* x, Real* rows) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kLastThreads + threadIdx.x;
  if (index >= packed.sequences * hidden) return;
  const Span span = span_of(packed.offsets, packed.capacity, index / hidden);
  const std::int64_t token = span.end > 0 ? span.end - 1 : 0;
  Real* element = x + token * hidden + index % hidden;
  if constexpr (kAdd) {
    // An empty sequence has no token of its own to add to.
    if (span.end > span.begin) *element += rows[index];
  } else {
    rows[index] = *element;
  }
}

// --- gradients of the embedding tables ----------------------------------------------------------

__device__ __forceinline__ std::int32_t key_of_token(const Packed& packed, std::int64_t classes,
                                                     int token, int tokens) {
  if (token >= tokens) return 0;
  const std::int32_t item = packed.items[token];
  return item > 0 && item < classes ? item : 0;
}

inline constexpr int kKeyThreads = 128;

__global__ void __launch_bounds__(kKeyThreads)
    token_keys_kernel(Packed packed, std::int64_t classes, std::int32_t* keys) {
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * kKeyThreads + threadIdx.x;
  if (token >= packed.capacity) return;
  const int tokens = live_rows(packed.tokens());
  keys[token] = key_of_token(packed, classes, static_cast<int>(token), tokens);
}

// A warp a token. Grid: tokens, kLastWarps a block.
template <typename Real, int kParts>
__global__ void __launch_bounds__(kLastThreads)
    item_gradient_scan_kernel(Packed packed, int hidden, std::int64_t classes, const Real* grad_x,
                              Real* grad_table) {
  const int token = static_cast<int>(blockIdx.x) * kLastWarps + warp_index();
  const int tokens = live_rows(packed.tokens());
  const std::int32_t key = key_of_token(packed, classes, token, tokens);
  if (key == 0) return;
  for (int first = 0; first < token; first += kWarpSize) {
    const int other = first + lane_index();
    if (__any_sync(kFullWarp, other < token && packed.items[other] == key)) return;
  }
  LaneVector<Real, kParts> sum;
  for (int first = token / kWarpSize * kWarpSize; first < tokens; first += kWarpSize) {
    const int other = first + lane_index();
    unsigned same =
        __ballot_sync(kFullWarp, other >= token && other < tokens && packed.items[other] == key);
    for (; same != 0; same &= same - 1) {
      const std::int64_t at = first + __ffs(static_cast<int>(same)) - 1;
      sum.add(Real(1), grad_x + at * hidden, hidden);
    }
  }
  sum.store(grad_table + static_cast<std::int64_t>(key) * hidden, hidden);
}

// A warp a place in the sorted order; the first of each item sums the item's tokens.
template <typename Real, int kParts>
__global__ void __launch_bounds__(kLastThreads)
    item_gradient_sorted_kernel(std::int64_t capacity, int hidden, const Real* grad_x,
                                const std::int32_t* sorted_keys, const std::int64_t* order,
                                Real* grad_table) {
  const std::int64_t place = static_cast<std::int64_t>(blockIdx.x) * kLastWarps + warp_index();
  if (place >= capacity) return;
  const std::int32_t key = sorted_keys[place];
  if (key == 0 || (place > 0 && sorted_keys[place - 1] == key)) return;
  LaneVector<Real, kParts> sum;
  for (std::int64_t i = place; i < capacity && sorted_keys[i] == key; ++i) {
    sum.add(Real(1), grad_x + order[i] * hidden, hidden);
  }
  sum.store(grad_table + static_cast<std::int64_t>(key) * hidden, hidden);
}

inline constexpr int kPositionThreads = 256;
inline constexpr int kPositionWarps = kPositionThreads / kWarpSize;

// Grid: positions.
template <typename Real, int kParts>
__global__ void __launch_bounds__(kPositionThreads)
    position_gradient_kernel(Packed packed, int hidden, std::int64_t places, const Real* grad_x,
                             Real* grad_table) {
  MCLREC_DYNAMIC_SHARED(Real, shared);  // [kPositionWarps][D]
  const int tokens = live_rows(packed.tokens());
  const int part = (tokens + kPositionWarps - 1) / kPositionWarps;
  const int begin = warp_index() * part;
  const int end = begin + part < tokens ? begin + part : tokens;
  LaneVector<Real, kParts> sum;
  for (int first = begin; first < end; first += kWarpSize) {
    const int token = first + lane_index();
    const bool here = token < end && clamped(packed.positions[token], places) ==
                                         static_cast<std::int64_t>(blockIdx.x);
    for (unsigned same = __ballot_sync(kFullWarp, here); same != 0; same &= same - 1) {
      const std::int64_t at = first + __ffs(static_cast<int>(same)) - 1;
      sum.add(Real(1), grad_x + at * hidden, hidden);
    }
  }
  sum.store(shared + warp_index() * hidden, hidden);
  __syncthreads();
  for (int d = static_cast<int>(threadIdx.x); d < hidden; d += kPositionThreads) {
    Real total = shared[d];
    for (int w = 1; w < kPositionWarps; ++w) total += shared[w * hidden + d];
    grad_table[static_cast<std::int64_t>(blockIdx.x) * hidden + d] = total;
  }
}

}  // namespace mclrec::cuda
