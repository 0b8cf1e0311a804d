// The losses of the four views of a batch on the CPU, as problems of the similarity engine;
// torch-free. L_cl1 joins the other pairs where it is a plain dot product too, else it is a problem
// of its own.
#pragma once

#include "similarity_cpu.h"

namespace mclrec {

template <class T>
struct ContrastParams {
  const T* views[4] = {};  // h1, h2, z1, z2: [batch, width] each
  int64_t batch = 0;       // B >= 1; with a single row all losses are 0 by definition
  int64_t width = 0;       // D
  double temperature = 1.0;
  bool cosine = false;  // temperature and cosine are those of L_cl1 only
  bool cl1 = true;
};

// d / d (cl1, cl2, regulariser), and where the gradients go (null where not wanted).
template <class T>
struct ContrastGradients {
  T cl1 = 0, cl2 = 0, regulariser = 0;
  T* views[4] = {};
};

struct ContrastLosses {
  double cl1 = 0.0, cl2 = 0.0, regulariser = 0.0;
};

template <class T>
SimilarityStateSize contrast_state_size(const ContrastParams<T>& params);

// `values` and `indices` as for similarity_forward.
template <class T>
ContrastLosses contrast_forward(const ContrastParams<T>& params, T* values, int32_t* indices);

template <class T>
void contrast_backward(const ContrastParams<T>& params, const T* values, const int32_t* indices,
                       const ContrastGradients<T>& gradients);

}  // namespace mclrec
