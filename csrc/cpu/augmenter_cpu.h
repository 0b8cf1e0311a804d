// The learnable augmenter on the CPU: a perceptron of three layers, exact GELU after the first two,
// the output divided by its L2 norm (Qin et al. 2023, Eq. 7), forward and backward. Interface only;
// raw pointers, no torch. 2 FLOP a weight and row forward, 4 backward (2 where one kind of gradient
// is not wanted): far below a millisecond, and worth a kernel only because some forty small
// operations are not.
#pragma once

#include <cstdint>

namespace mclrec {

constexpr int kAugmenterLayers = 3;

// Layer l maps sizes[l] numbers to sizes[l + 1]; matrices are [out][in].
template <class T>
struct Augmenter {
  int64_t rows;
  int64_t sizes[kAugmenterLayers + 1];
  const T* h;  // [rows][sizes[0]]
  const T* weight[kAugmenterLayers];
  const T* bias[kAugmenterLayers];
};

// Where to put the gradients; null where one is not wanted. Weights and biases are wanted together.
template <class T>
struct AugmenterGradients {
  T* h = nullptr;  // [rows][sizes[0]]
  T* weight[kAugmenterLayers] = {};
  T* bias[kAugmenterLayers] = {};
};

// Elements the forward pass leaves to the backward pass, for the instruction set in use.
int64_t augmenter_saved_size(int64_t rows, const int64_t* sizes);

// z [rows][sizes[3]]; saved may be null when no backward pass follows.
template <class T>
void augmenter_forward(const Augmenter<T>& augmenter, T* z, T* saved);

template <class T>
void augmenter_backward(const Augmenter<T>& augmenter, const T* z, const T* saved, const T* grad_z,
                        const AugmenterGradients<T>& gradients);

}  // namespace mclrec
