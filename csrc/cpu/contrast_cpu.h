// The losses of the four views of a batch on the CPU, as problems of the similarity engine;
// torch-free. L_cl1 joins the other pairs where it is a plain dot product too, else it is a problem
// of its own.
#pragma once

#include "similarity_cpu.h"

namespace mclrec {

template <class T>
SimilarityStateSize contrast_state_size(const ContrastParams<T>& params);

// `values` and `indices` as for similarity_forward.
template <class T>
void contrast_forward(const ContrastParams<T>& params, const ContrastLosses<T>& losses, T* values,
                      int32_t* indices);

template <class T>
void contrast_backward(const ContrastParams<T>& params, const T* values, const int32_t* indices,
                       const ContrastGradients<T>& gradients);

}  // namespace mclrec
