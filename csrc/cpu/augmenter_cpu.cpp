// The augmenter for every instruction set.
#include "augmenter_cpu.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "parallel.h"
#include "scratch.h"
#include "simd.h"

#define MCLREC_OP augmenter
#define MCLREC_KERNELS "../augmenter.inl"
#include "isa/each_set.inl"

namespace mclrec {

int64_t augmenter_saved_size(int64_t rows, const int64_t* sizes) {
  const int64_t padding = isa_facts(selected_isa()).padding;
  return rows * (round_up(sizes[1], padding) + round_up(sizes[2], padding) + 1);
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
