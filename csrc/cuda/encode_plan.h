// Where the encoder's intermediate results lie in its workspace and its backward scratch.
#pragma once

#include <algorithm>
#include <vector>

#include "../shared/encode.h"
#include "carver.h"
#include "norm_cuda.h"

namespace mclrec::cuda {

// The shape of a call as the kernels count it.
struct EncodeShape {
  Packed packed;
  std::int64_t classes, places;  // V, P
  int hidden, inner;             // D, F
  int heads, layers;

  EncodeShape(const EncodeSizes& sizes, const EncodeBatch& batch)
      : packed{batch.items, batch.positions, batch.offsets, sizes.capacity, sizes.sequences},
        classes(sizes.items),
        places(sizes.positions),
        hidden(static_cast<int>(sizes.hidden)),
        inner(static_cast<int>(sizes.inner)),
        heads(static_cast<int>(sizes.heads)),
        layers(static_cast<int>(sizes.layers)) {}
};

// What both kinds of layer keep from the attention's context on. R rows: T tokens or S last tokens.
template <typename Real>
struct BlockSaved {
  Real* context;  // [R, D]
  Normalised<Real> norm1;
  Real* x1;      // [R, D] after the first LayerNorm
  Real* pre;     // [R, F] before GELU
  Real* active;  // [R, F] after it
  Normalised<Real> norm2;
  Real* out;  // [R, D]; the last layer's is h
};

template <typename Real>
struct FullSaved {
  Real* qkv;  // [T, 3 D]
  Real* lse;  // [T, H]
  BlockSaved<Real> block;
};

template <typename Real>
struct LastSaved {
  Real* rows;     // [S, D] inputs of the last tokens
  Real* query;    // [S, D]
  Real* u;        // [S, H, D]
  Real* scores;   // [T, H]
  Real* lse;      // [S, H]
  Real* mixture;  // [S, H, D]
  Real* mass;     // [S, H]
  BlockSaved<Real> block;
};

template <typename Real>
struct EncodeSaved {
  std::int32_t* sequence;  // [T]
  Normalised<Real> norm;   // of the embedding
  Real* x;                 // [T, D]
  Real* sublayer;          // [T, D] scratch: output of a sublayer before its residual
  std::vector<FullSaved<Real>> full;
  LastSaved<Real> last;
};

template <typename Real>
BlockSaved<Real> carve_block(Carver<Real>& carver, std::int64_t rows, int hidden, int inner) {
  BlockSaved<Real> block;
  block.context = carver.take(rows * hidden);
  block.norm1 = {carver.take(rows * hidden), carver.take(rows)};
  block.x1 = carver.take(rows * hidden);
  block.pre = carver.take(rows * inner);
  block.active = carver.take(rows * inner);
  block.norm2 = {carver.take(rows * hidden), carver.take(rows)};
  block.out = carver.take(rows * hidden);
  return block;
}

template <typename Real>
EncodeSaved<Real> carve_saved(const EncodeShape& shape, Carver<Real>& carver) {
  const std::int64_t tokens = shape.packed.capacity, sequences = shape.packed.sequences;
  const int hidden = shape.hidden, heads = shape.heads;
  EncodeSaved<Real> saved;
  saved.sequence = reinterpret_cast<std::int32_t*>(carver.take(tokens));
  saved.norm = {carver.take(tokens * hidden), carver.take(tokens)};
  saved.x = carver.take(tokens * hidden);
  saved.sublayer = carver.take(std::max(tokens, sequences) * hidden);
  for (int layer = 0; layer + 1 < shape.layers; ++layer) {
    FullSaved<Real> full;
    full.qkv = carver.take(3 * tokens * hidden);
    full.lse = carver.take(tokens * heads);
    full.block = carve_block(carver, tokens, hidden, shape.inner);
    saved.full.push_back(full);
  }
  LastSaved<Real>& last = saved.last;
  last.rows = carver.take(sequences * hidden);
  last.query = carver.take(sequences * hidden);
  last.u = carver.take(sequences * heads * hidden);
  last.scores = carver.take(tokens * heads);
  last.lse = carver.take(sequences * heads);
  last.mixture = carver.take(sequences * heads * hidden);
  last.mass = carver.take(sequences * heads);
  last.block = carve_block(carver, sequences, hidden, shape.inner);
  return saved;
}

// Rows summed by one block of a weight gradient, and of a LayerNorm's: enough blocks to fill a GPU,
// at most 64 and 256 partial sums whatever the capacity.
inline int weight_split_rows(std::int64_t capacity) {
  return static_cast<int>(std::max<std::int64_t>(256, (capacity / 64 + 32) / 32 * 32));
}
inline int norm_split_rows(std::int64_t capacity) {
  return static_cast<int>(std::max<std::int64_t>(64, (capacity / 256 + 8) / 8 * 8));
}
inline std::int64_t splits_of(std::int64_t rows, int rows_per_split) {
  return std::max<std::int64_t>(1, ceil_div(rows, rows_per_split));
}

// Gradients a layer keeps until the weight gradients are taken, all layers at once.
template <typename Real>
struct BlockGradients {
  Real* outer;     // [R, D] of the outer (second) linear's output
  Real* inner;     // [R, F] of the inner linear's output
  Real* attended;  // [R, D] of the output projection's output
};

template <typename Real>
struct EncodeScratch {
  // Shared by all layers, [max(T, S), D] each.
  Real* grad_out;
  Real* residual2;
  Real* grad_x1;
  Real* residual1;
  Real* grad_context;
  std::vector<BlockGradients<Real>> blocks;  // one a layer
  std::vector<Real*> grad_qkv;               // [T, 3 D] a full layer
  Real* delta;                               // [T, H]
  // The last layer's.
  Real* last_context;  // [S, D]
  Real* grad_mixture;  // [S, H, D]
  Real* grad_u;        // [S, H, D]
  Real* grad_query;    // [S, D]
  Real* grad_rows;     // [S, D]
  Real* grad_scores;   // [T, H]
  Real* dropped;       // [T, H]
};

template <typename Real>
EncodeScratch<Real> carve_scratch(const EncodeShape& shape, Carver<Real>& carver) {
  const std::int64_t tokens = shape.packed.capacity, sequences = shape.packed.sequences;
  const std::int64_t rows = std::max(tokens, sequences);
  const int hidden = shape.hidden, heads = shape.heads;
  EncodeScratch<Real> scratch{carver.take(rows * hidden),
                              carver.take(rows * hidden),
                              carver.take(rows * hidden),
                              carver.take(rows * hidden),
                              carver.take(rows * hidden),
                              {},
                              {},
                              carver.take(tokens * heads),
                              carver.take(sequences * hidden),
                              carver.take(sequences * heads * hidden),
                              carver.take(sequences * heads * hidden),
                              carver.take(sequences * hidden),
                              carver.take(sequences * hidden),
                              carver.take(tokens * heads),
                              carver.take(tokens * heads)};
  for (int layer = 0; layer < shape.layers; ++layer) {
    const bool last = layer + 1 == shape.layers;
    const std::int64_t count = last ? sequences : tokens;
    scratch.blocks.push_back({carver.take(count * hidden), carver.take(count * shape.inner),
                              carver.take(count * hidden)});
    if (!last) scratch.grad_qkv.push_back(carver.take(3 * tokens * hidden));
  }
  return scratch;
}

// Partial sums: of a layer's weights about 4 D D + 2 D F (and biases), of its LayerNorms 4 D.
inline std::int64_t partial_numbers(const EncodeShape& shape) {
  const std::int64_t d = shape.hidden, f = shape.inner;
  const std::int64_t weights = 4 * (d * d + d) + (d * f + f) + (f * d + d) + 64 * (shape.heads + 8);
  std::int64_t total = 0;
  for (int layer = 0; layer < shape.layers; ++layer) {
    const std::int64_t rows =
        layer + 1 == shape.layers ? shape.packed.sequences : shape.packed.capacity;
    total += splits_of(rows, weight_split_rows(rows)) * weights;
    total += splits_of(rows, norm_split_rows(rows)) * 4 * d + 64;
  }
  const std::int64_t tokens = shape.packed.capacity;
  return total + splits_of(tokens, norm_split_rows(tokens)) * 2 * d + 64;
}

}  // namespace mclrec::cuda
