// One step of Adam over a list of arrays (Kingma & Ba, ICLR 2015, without weight decay), with the
// arithmetic of torch's fused kernel. Interface only; raw pointers, no torch. Memory decides: seven
// accesses to an element.
#pragma once

#include <cstdint>
#include <vector>

namespace mclrec {

struct AdamSettings {
  double learning_rate;
  double beta_1;
  double beta_2;
  double eps;
  double step;  // number of this step, from 1
};

template <class T>
struct AdamArray {
  int64_t size;
  T* weight;
  const T* gradient;
  T* first;   // running mean of the gradient
  T* second;  // of its square
};

template <class T>
void adam(const AdamSettings& settings, const std::vector<AdamArray<T>>& arrays);

}  // namespace mclrec
