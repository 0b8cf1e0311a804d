// What info_nce and contrast are given, on the CPU and on CUDA. Pointers to numbers of T point to
// where the kernels run.
#pragma once

#include <cstdint>

namespace mclrec {

// What the forward pass leaves for the backward pass.
struct SimilarityStateSize {
  int64_t values;   // of T
  int64_t indices;  // of int32_t
};

template <class T>
struct InfoNceParams {
  const T* views[2];  // a, b: [batch, hidden] each, dense
  int64_t batch;      // B >= 1; with a single row the loss is 0 by definition
  int64_t hidden;     // D
  double temperature;
  bool cosine;
};

// d / d loss, and where the gradients go (null where not wanted).
template <class T>
struct InfoNceGradients {
  const T* loss;
  T* views[2];
};

template <class T>
struct ContrastParams {
  const T* views[4];   // h1, h2, z1, z2: [batch, hidden] each, dense
  int64_t batch;       // B >= 1; with a single row all losses are 0 by definition
  int64_t hidden;      // D
  double temperature;  // of L_cl1, as is `cosine`
  bool cosine;
  bool cl1;
};

template <class T>
struct ContrastLosses {
  T* cl1;
  T* cl2;
  T* regulariser;
};

// d / d (cl1, cl2, regulariser), and where the gradients go (null where not wanted).
template <class T>
struct ContrastGradients {
  const T* cl1;
  const T* cl2;
  const T* regulariser;
  T* views[4];
};

}  // namespace mclrec
