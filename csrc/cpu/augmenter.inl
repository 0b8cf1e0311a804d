// The augmenter's passes over blocks of rows, and the threads' share in them.
// Saved: u1 and u2 (before GELU) of a row side by side, then each row's 1 / |y|.
// Compiled once per instruction set: see isa/each_set.inl.
// clang-format off
#include "simd.inl"
#include "vector_math.inl"
#include "transpose.inl"
#include "gemm_tile.inl"
// clang-format on

constexpr int64_t kBlockRows = 128;

template <class T>
struct Layers {
  Augmenter<T> of;
  int64_t row[kAugmenterLayers + 1];  // sizes, padded to whole tiles with zeros
  T* bias[kAugmenterLayers];          // [row[l + 1]]
  T* panels[kAugmenterLayers];        // forward: for x W^T; backward: for y W

  Layers(const Augmenter<T>& augmenter, bool backward, Scratch& scratch) : of(augmenter) {
    for (int l = 0; l <= kAugmenterLayers; ++l) row[l] = round_up(of.sizes[l], kPadding);
    for (int l = 0; l < kAugmenterLayers; ++l) {
      const int64_t in = of.sizes[l], out = of.sizes[l + 1];
      bias[l] = scratch.take<T>(row[l + 1]);
      std::fill_n(std::copy_n(of.bias[l], out, bias[l]), row[l + 1] - out, T(0));
      panels[l] = scratch.take<T>(row[l] * row[l + 1]);
      if (backward) {
        pack_panels(of.weight[l], in, int64_t{1}, out, in, panels[l]);
      } else {
        pack_panels(of.weight[l], int64_t{1}, in, in, out, panels[l]);
      }
    }
  }

  int64_t hidden_row() const { return row[1] + row[2]; }  // of the saved values before GELU
  int64_t blocks() const { return ceil_div(of.rows, kBlockRows); }
  int64_t block_rows(int64_t block) const {
    return std::min(kBlockRows, of.rows - block * kBlockRows);
  }
};

template <class T>
MCLREC_INLINE Vec<T> load_upto(const T* from, int64_t left) {
  return left >= kLanes<T> ? load(from) : load_first(from, static_cast<int>(left));
}

template <class T>
MCLREC_INLINE void store_upto(T* to, Vec<T> value, int64_t left) {
  if (left >= kLanes<T>) {
    store(to, value);
  } else {
    store_first(to, value, static_cast<int>(left));
  }
}

// visit(row, c) for every vector of `rows` rows of `size` elements.
template <class T, class Visit>
MCLREC_INLINE void each_vector_of(int64_t rows, int64_t size, const Visit& visit) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < size; c += kLanes<T>) visit(r, c);
  }
}

// c [rows][row of cols] = start + a b, b in panels: multiply_panels, and zeros in the padding that
// it does not reach (tiles may be narrower than the padding).
template <TileStart kStart, class T>
void multiply_padded(Rows<const T> a, const T* panels, const ProductSize& size, Rows<T> c,
                     const T* bias = nullptr) {
  multiply_panels<kStart, T>(a, panels, size, c, bias);
  const int64_t done = round_up(size.cols, kTileCols<T>);
  const int64_t end = round_up(size.cols, kPadding);
  for (int64_t r = 0; r < size.rows && done < end; ++r) {
    std::fill_n(c.row(r) + done, end - done, T(0));
  }
}

// z = y / |y|, y = W3 gelu(u2) + b3, u2 = W2 gelu(u1) + b2, u1 = W1 h + b1.
template <class T>
void forward_block(const Layers<T>& layers, int64_t block, T* z, T* u, T* inverse, T* activated,
                   T* y) {
  const Augmenter<T>& of = layers.of;
  const int64_t rows = layers.block_rows(block), first = block * kBlockRows;
  const int64_t stride = layers.hidden_row(), out = of.sizes[3];
  const T* input = of.h + first * of.sizes[0];
  int64_t input_row = of.sizes[0];
  for (int l = 0; l < 2; ++l) {
    T* before = u + (l == 0 ? 0 : layers.row[1]);
    multiply_padded<TileStart::kBias, T>(
        {input, input_row}, layers.panels[l],
        {.rows = rows, .cols = of.sizes[l + 1], .depth = of.sizes[l]}, {before, stride},
        layers.bias[l]);
    T* after = activated + (l == 0 ? 0 : kBlockRows * layers.row[1]);
    const int64_t row = layers.row[l + 1];
    each_vector_of<T>(rows, row, [&](int64_t r, int64_t c) __attribute__((always_inline)) {
      const Vec<T> v = load(before + r * stride + c);
      store(after + r * row + c, v * normal(v).cdf);
    });
    input = after;
    input_row = row;
  }
  multiply_padded<TileStart::kBias, T>({input, input_row}, layers.panels[2],
                                       {.rows = rows, .cols = out, .depth = of.sizes[2]},
                                       {y, layers.row[3]}, layers.bias[2]);
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = y + r * layers.row[3];
    T* to = z + (first + r) * out;
    Vec<T> squares = {};
    for (int64_t c = 0; c < layers.row[3]; c += kLanes<T>) {
      squares = fma(load(from + c), load(from + c), squares);
    }
    const T length = std::sqrt(lane_sum<T>(squares));
    if (inverse != nullptr) inverse[r] = T(1) / length;
    for (int64_t c = 0; c < out; c += kLanes<T>) {
      store_upto(to + c, load(from + c) / broadcast(length), out - c);
    }
  }
}

template <class T>
void forward(const Augmenter<T>& augmenter, T* z, T* saved) {
  Scratch memory;
  const Layers<T> layers(augmenter, false, memory);
  const int64_t stride = layers.hidden_row();
  const int workers = worker_count();
  const int64_t one = kBlockRows * (2 * stride + layers.row[3]);
  T* scratch = memory.take<T>(workers * one);
  parallel_tasks(layers.blocks(), [&](int64_t block, int worker) {
    T* mine = scratch + worker * one;
    const int64_t first = block * kBlockRows;
    T* u = saved == nullptr ? mine + kBlockRows * (stride + layers.row[3]) : saved + first * stride;
    T* inverse = saved == nullptr ? nullptr : saved + augmenter.rows * stride + first;
    forward_block(layers, block, z, u, inverse, mine, mine + kBlockRows * stride);
  });
}

// One block's sums of the gradients of a layer: weight [out][row of in], then bias [row of out].
template <class T>
int64_t layer_sums_size(const Layers<T>& layers, int l) {
  return layers.of.sizes[l + 1] * layers.row[l] + layers.row[l + 1];
}

template <class T>
void layer_gradients(const Layers<T>& layers, int l, int64_t rows, const T* grad, const T* input,
                     T* sums) {
  const int64_t row = layers.row[l + 1], out = layers.of.sizes[l + 1];
  multiply_transposed<TileStart::kZero, T>({grad, row}, {input, layers.row[l]},
                                           {.rows = out, .cols = layers.row[l], .depth = rows},
                                           {sums, layers.row[l]});
  T* bias = sums + out * layers.row[l];
  for (int64_t c = 0; c < row; c += kLanes<T>) {
    Vec<T> sum = {};
    for (int64_t r = 0; r < rows; ++r) sum += load(grad + r * row + c);
    store(bias + c, sum);
  }
}

// What the backward pass of a block reads (z, grad_z and grad_h are those of all blocks) and its
// scratch.
template <class T>
struct BlockBackward {
  const T* z;
  const T* u;
  const T* inverse;
  const T* grad_z;
  T* grad;       // gradients of y, u2, u1 and h, one behind the other
  T* activated;  // gelu(u1) and gelu(u2)
  T* padded_h;
  T* sums;    // the block's, or null
  T* grad_h;  // or null
};

template <class T>
void backward_block(const Layers<T>& layers, int64_t block, const BlockBackward<T>& in) {
  const T* z = in.z;
  const T* u = in.u;
  const T* inverse = in.inverse;
  const T* grad_z = in.grad_z;
  T* grad = in.grad;
  T* activated = in.activated;
  T* padded_h = in.padded_h;
  T* sums = in.sums;
  T* grad_h = in.grad_h;
  const Augmenter<T>& of = layers.of;
  const int64_t rows = layers.block_rows(block), first = block * kBlockRows;
  const int64_t stride = layers.hidden_row(), out = of.sizes[3];
  // y = |y| z: d y = (d z - z (z . d z)) / |y|.
  for (int64_t r = 0; r < rows; ++r) {
    const T* unit = z + (first + r) * out;
    const T* from = grad_z + (first + r) * out;
    T* to = grad + r * layers.row[3];
    Vec<T> along = {};
    for (int64_t c = 0; c < out; c += kLanes<T>) {
      along = fma(load_upto(unit + c, out - c), load_upto(from + c, out - c), along);
    }
    const T dot = lane_sum<T>(along);
    for (int64_t c = 0; c < layers.row[3]; c += kLanes<T>) {
      const int64_t left = std::max<int64_t>(out - c, 0);
      store(to + c, (load_upto(from + c, left) - load_upto(unit + c, left) * dot) * inverse[r]);
    }
  }
  const T* inputs[3] = {padded_h, activated, activated + kBlockRows * layers.row[1]};
  if (sums != nullptr) {
    for (int64_t r = 0; r < rows; ++r) {
      const T* from = of.h + (first + r) * of.sizes[0];
      T* to = padded_h + r * layers.row[0];
      std::fill_n(std::copy_n(from, of.sizes[0], to), layers.row[0] - of.sizes[0], T(0));
    }
  }
  for (int l = 2; l >= 0; --l) {
    T* below = grad + kBlockRows * layers.row[l + 1];
    const int64_t row = layers.row[l];
    if (l == 0 && grad_h == nullptr) {
      layer_gradients(layers, l, rows, grad, inputs[l], sums);
      break;
    }
    multiply_padded<TileStart::kZero, T>(
        {grad, layers.row[l + 1]}, layers.panels[l],
        {.rows = rows, .cols = of.sizes[l], .depth = of.sizes[l + 1]}, {below, row});
    if (l > 0) {
      // d u = d gelu(u) (cdf(u) + u pdf(u))
      const T* before = u + (l == 1 ? 0 : layers.row[1]);
      T* after = const_cast<T*>(inputs[l]);
      each_vector_of<T>(rows, row, [&](int64_t r, int64_t c) __attribute__((always_inline)) {
        const Vec<T> v = load(before + r * stride + c);
        const Normal<T> at = normal(v);
        store(after + r * row + c, v * at.cdf);
        store(below + r * row + c, load(below + r * row + c) * fma(v, at.pdf, at.cdf));
      });
    }
    if (sums != nullptr) {
      layer_gradients(layers, l, rows, grad, inputs[l], sums);
      sums += layer_sums_size(layers, l);
    }
    grad = below;
  }
  if (grad_h == nullptr) return;
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(grad + r * layers.row[0], of.sizes[0], grad_h + (first + r) * of.sizes[0]);
  }
}

template <class T>
void backward(const Augmenter<T>& augmenter, const T* z, const T* saved, const T* grad_z,
              const AugmenterGradients<T>& gradients) {
  Scratch memory;
  const Layers<T> layers(augmenter, true, memory);
  const int64_t stride = layers.hidden_row(), blocks = layers.blocks();
  const bool wanted = gradients.weight[0] != nullptr;
  int64_t sums_size = 0, places[kAugmenterLayers];
  for (int l = 2; l >= 0; --l) {  // in the order in which a block makes them
    places[l] = sums_size;
    sums_size += layer_sums_size(layers, l);
  }
  T* sums = wanted ? memory.take<T>(blocks * sums_size) : nullptr;
  const int64_t grads = layers.row[0] + stride + layers.row[3];
  const int64_t one = kBlockRows * (grads + stride + layers.row[0]);
  const int workers = worker_count();
  T* scratch = memory.take<T>(workers * one);
  parallel_tasks(blocks, [&](int64_t block, int worker) {
    T* grad = scratch + worker * one;
    T* activated = grad + kBlockRows * grads;
    const int64_t first = block * kBlockRows;
    backward_block<T>(layers, block,
                      {.z = z,
                       .u = saved + first * stride,
                       .inverse = saved + augmenter.rows * stride + first,
                       .grad_z = grad_z,
                       .grad = grad,
                       .activated = activated,
                       .padded_h = activated + kBlockRows * stride,
                       .sums = wanted ? sums + block * sums_size : nullptr,
                       .grad_h = gradients.h});
  });
  if (!wanted) return;
  // The blocks' sums in order, whatever the number of threads.
  for (int l = 0; l < kAugmenterLayers; ++l) {
    const int64_t in = augmenter.sizes[l], out = augmenter.sizes[l + 1];
    for (int64_t row = 0; row <= out; ++row) {  // the last one is the bias
      T* to = row < out ? gradients.weight[l] + row * in : gradients.bias[l];
      const int64_t count = row < out ? in : out;
      std::fill_n(to, count, T(0));
      for (int64_t block = 0; block < blocks; ++block) {
        const T* from = sums + block * sums_size + places[l] + row * layers.row[l];
        for (int64_t c = 0; c < count; ++c) to[c] += from[c];
      }
    }
  }
}
