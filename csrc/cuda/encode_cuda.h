// The packed encoder on CUDA as a fixed sequence of launches, forward and backward; torch-free.
#pragma once

#include <cstdint>

#include "../shared/encode.h"
#include "context.h"

namespace mclrec::cuda {

// Numbers that encode_forward leaves for encode_backward.
template <typename Real>
std::int64_t encode_saved_size(const EncodeSizes& sizes);

// h [S, D]; saved may be null where no gradient is wanted.
template <typename Real>
void encode_forward(const EncodeParams<Real>& params, Real* h, Real* saved, Context& context);

// grad_h [S, D]; grads: one array a weight. Not written at all: the gradient of the last layer's
// key bias, and the rows of items without a token; and nothing where there are no sequences.
// `add_items` is for the CPU alone.
template <typename Real>
void encode_backward(const EncodeParams<Real>& params, const Real* grad_h, const Real* saved,
                     Real* const* grads, bool add_items, Context& context);

}  // namespace mclrec::cuda
