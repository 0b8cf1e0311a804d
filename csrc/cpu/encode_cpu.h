// The packed encoder on the CPU: SASRec's post-norm blocks over sequences laid end to end, one call
// forward and one backward (Kang & McAuley 2018). Interface only; raw pointers, no torch.
//
// FLOP, with T tokens, S sequences of n tokens, K = layers - 1 full layers, inner size F:
//   a full layer, per token:    2 (4 D^2 + 2 D F) + 2 n D
//   the last layer, per row:    2 (4 D^2 + 2 D F) + 4 n H D   (its keys and values are absorbed)
// and twice that backward. Bytes kept for the backward pass, per token and full layer:
// sizeof(T) (3 D + 2 D + 2 F) + 1/4 D, written once and read once.
#pragma once

#include <cstdint>

#include "../shared/encode.h"

namespace mclrec {

// Elements of `saved` for the instruction set in use.
int64_t encode_saved_size(const EncodeSizes& sizes);

// h [S, D]; saved [encode_saved_size] or null when no backward pass follows.
template <class T>
void encode_forward(const EncodeParams<T>& params, T* h, T* saved);

// gradients: one array per weight, shaped like it, written in full; the item embedding's is added
// to what its array holds where `add_items`. It is that of its use as tokens; row 0 gets none.
template <class T>
void encode_backward(const EncodeParams<T>& params, const T* grad_h, const T* saved,
                     T* const* gradients, bool add_items);

}  // namespace mclrec
