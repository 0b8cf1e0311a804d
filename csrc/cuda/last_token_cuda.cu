// Launchers of last_token_kernel.cuh; the hidden size picks how many numbers a lane holds.
#include <type_traits>

#include "last_token_kernel.cuh"

namespace mclrec::cuda {
namespace {

template <typename Real, typename Run>
void by_width(int hidden, Run&& run) {
  if constexpr (!kWidestOnly<Real>) {
    if (hidden <= 64) return run(std::integral_constant<int, 2>());
    if (hidden <= 128) return run(std::integral_constant<int, 4>());
  }
  run(std::integral_constant<int, 16>());
}

cudaStream_t on(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

template <typename Real>
void last_token_attention(const LastToken<Real>& job, void* stream) {
  const std::int64_t pairs = job.packed.sequences * job.heads;
  by_width<Real>(job.hidden, [&](auto parts) {
    launch({blocks_for(pairs, kLastWarps), kLastThreads, 0, on(stream)},
           last_token_kernel<Real, decltype(parts)::value>, job);
  });
}

template <typename Real>
void last_token_attention_backward(const LastTokenBackward<Real>& job, void* stream) {
  by_width<Real>(job.forward.hidden, [&](auto parts) {
    launch({blocks_for(job.forward.packed.sequences, 1), kLastThreads, 0, on(stream)},
           last_token_backward_kernel<Real, decltype(parts)::value>, job);
  });
}

template <typename Real>
void gather_last(const Packed& packed, int hidden, const Real* x, Real* rows, void* stream) {
  launch({blocks_for(packed.sequences * hidden, kLastThreads), kLastThreads, 0, on(stream)},
         last_rows_kernel<Real, false>, packed, hidden, const_cast<Real*>(x), rows);
}

template <typename Real>
void add_to_last(const Packed& packed, int hidden, const Real* rows, Real* x, void* stream) {
  launch({blocks_for(packed.sequences * hidden, kLastThreads), kLastThreads, 0, on(stream)},
         last_rows_kernel<Real, true>, packed, hidden, x, const_cast<Real*>(rows));
}

void token_keys(const Packed& packed, std::int64_t classes, std::int32_t* keys, void* stream) {
  launch({blocks_for(packed.capacity, kKeyThreads), kKeyThreads, 0, on(stream)}, token_keys_kernel,
         packed, classes, keys);
}

template <typename Real>
void item_gradient(const Packed& packed, int hidden, std::int64_t classes, const Real* grad_x,
                   const std::int32_t* sorted_keys, const std::int64_t* order, Real* grad_table,
                   void* stream) {
  const Launch shape({blocks_for(packed.capacity, kLastWarps), kLastThreads, 0, on(stream)});
  by_width<Real>(hidden, [&](auto parts) {
    constexpr int kParts = decltype(parts)::value;
    if (order == nullptr) {
      launch(shape, item_gradient_scan_kernel<Real, kParts>, packed, hidden, classes, grad_x,
             grad_table);
    } else {
      launch(shape, item_gradient_sorted_kernel<Real, kParts>, packed.capacity, hidden, grad_x,
             sorted_keys, order, grad_table);
    }
  });
}

template <typename Real>
void position_gradient(const Packed& packed, int hidden, std::int64_t places, const Real* grad_x,
                       Real* grad_table, void* stream) {
  const std::size_t bytes = static_cast<std::size_t>(kPositionWarps * hidden) * sizeof(Real);
  by_width<Real>(hidden, [&](auto parts) {
    launch({blocks_for(places, 1), kPositionThreads, bytes, on(stream)},
           position_gradient_kernel<Real, decltype(parts)::value>, packed, hidden, places, grad_x,
           grad_table);
  });
}

#define MCLREC_INSTANTIATE(Real)                                                                  \
  template void last_token_attention(const LastToken<Real>&, void*);                              \
  template void last_token_attention_backward(const LastTokenBackward<Real>&, void*);             \
  template void gather_last(const Packed&, int, const Real*, Real*, void*);                       \
  template void add_to_last(const Packed&, int, const Real*, Real*, void*);                       \
  template void item_gradient(const Packed&, int, std::int64_t, const Real*, const std::int32_t*, \
                              const std::int64_t*, Real*, void*);                                 \
  template void position_gradient(const Packed&, int, std::int64_t, const Real*, Real*, void*);
MCLREC_INSTANTIATE(float)
MCLREC_INSTANTIATE(double)
#undef MCLREC_INSTANTIATE

}  // namespace mclrec::cuda
