// info_nce on the CPU, as a problem of the similarity engine with one pair of views; torch-free.
#pragma once

#include "similarity_cpu.h"

namespace mclrec {

// Elements of what the forward pass leaves; none for a single row.
template <class T>
int64_t info_nce_state_size(const InfoNceParams<T>& params);

// `saved` may be null where no gradient is wanted.
template <class T>
void info_nce_forward(const InfoNceParams<T>& params, T* loss, T* saved);

template <class T>
void info_nce_backward(const InfoNceParams<T>& params, const T* saved,
                       const InfoNceGradients<T>& gradients);

}  // namespace mclrec
