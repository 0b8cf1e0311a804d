// The augmenter for every instruction set.
#include "augmenter_cpu.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "parallel.h"
#include "scratch.h"
#include "simd.h"

namespace mclrec::augmenter::portable {
constexpr int kVectorBytes = 16;
// clang-format off
#include "simd.inl"
#include "vector_math.inl"
#include "transpose.inl"
#include "gemm_tile.inl"
#include "augmenter.inl"
// clang-format on
}  // namespace mclrec::augmenter::portable
#if MCLREC_HAS_AVX2
MCLREC_AVX2_BEGIN
namespace mclrec::augmenter::avx2 {
constexpr int kVectorBytes = 32;
// clang-format off
#include "simd.inl"
#include "vector_math.inl"
#include "transpose.inl"
#include "gemm_tile.inl"
#include "augmenter.inl"
// clang-format on
}  // namespace mclrec::augmenter::avx2
MCLREC_AVX2_END
#endif

namespace mclrec {

int64_t augmenter_saved_size(int64_t rows, const int64_t* sizes) {
  return rows *
         (augmenter::portable::row_size(sizes[1]) + augmenter::portable::row_size(sizes[2]) + 1);
}

template <class T>
void augmenter_forward(const Augmenter<T>& augmenter, T* z, T* saved) {
  MCLREC_PICK(augmenter, forward<T>)(augmenter, z, saved);
}

template <class T>
void augmenter_backward(const Augmenter<T>& augmenter, const T* z, const T* saved, const T* grad_z,
                        const AugmenterGradients<T>& gradients) {
  MCLREC_PICK(augmenter, backward<T>)(augmenter, z, saved, grad_z, gradients);
}

template void augmenter_forward<float>(const Augmenter<float>&, float*, float*);
template void augmenter_forward<double>(const Augmenter<double>&, double*, double*);
template void augmenter_backward<float>(const Augmenter<float>&, const float*, const float*,
                                        const float*, const AugmenterGradients<float>&);
template void augmenter_backward<double>(const Augmenter<double>&, const double*, const double*,
                                         const double*, const AugmenterGradients<double>&);

}  // namespace mclrec
