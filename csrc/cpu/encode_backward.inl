// The encoder backward through full layers and the embedding, block by block in the order of
// decreasing layers. What was not kept is computed again: layer inputs (from the norms),
// attention probabilities and contexts. Weight gradients are sums over one chunk here.
// No #include and no namespace here: see encode_cpu.cpp.

// Weight gradients of one layer over one chunk, padded like the layer's activations.
template <class T>
struct LayerGradients {
  T* qkv_bias;  // [3][attention_row]
  T* output_bias;
  T* attention_norm;
  T* attention_norm_bias;
  T* inner_bias;  // [inner_row]
  T* outer_bias;
  T* feed_forward_norm;
  T* feed_forward_norm_bias;
  T* qkv;     // [3][attention_row][hidden_row]
  T* output;  // [D][attention_row]
  T* inner;   // [F][hidden_row]
  T* outer;   // [D][inner_row]
};

// Where a chunk's gradients lie in its array; the vectors come first, as they start from zero.
template <class T>
class GradientLayout {
 public:
  explicit GradientLayout(const EncodeLayout& layout) : layout_(layout) {
    const int64_t row = layout.hidden_row;
    vectors_ = 3 * layout.attention_row + layout.inner_row + 6 * row;
    matrices_ = 3 * layout.attention_row * row + layout.hidden * layout.attention_row +
                layout.inner * row + layout.hidden * layout.inner_row;
  }

  int64_t vectors() const { return 2 * layout_.hidden_row + layout_.layers * vectors_; }
  int64_t size() const { return padded(vectors() + layout_.layers * matrices_); }

  T* embedding_norm(T* base) const { return base; }
  T* embedding_norm_bias(T* base) const { return base + layout_.hidden_row; }
  LayerGradients<T> layer(T* base, int64_t l) const {
    const int64_t row = layout_.hidden_row;
    T* vector = base + 2 * row + l * vectors_;
    T* matrix = base + vectors() + l * matrices_;
    const auto take = [](T*& from, int64_t size) {
      T* place = from;
      from += size;
      return place;
    };
    LayerGradients<T> g;
    g.qkv_bias = take(vector, 3 * layout_.attention_row);
    g.output_bias = take(vector, row);
    g.attention_norm = take(vector, row);
    g.attention_norm_bias = take(vector, row);
    g.inner_bias = take(vector, layout_.inner_row);
    g.outer_bias = take(vector, row);
    g.feed_forward_norm = take(vector, row);
    g.feed_forward_norm_bias = take(vector, row);
    g.qkv = take(matrix, 3 * layout_.attention_row * row);
    g.output = take(matrix, layout_.hidden * layout_.attention_row);
    g.inner = take(matrix, layout_.inner * row);
    g.outer = take(matrix, layout_.hidden * layout_.inner_row);
    return g;
  }

 private:
  const EncodeLayout& layout_;
  int64_t vectors_;
  int64_t matrices_;
};

template <class T>
struct BackwardScratch {
  BlockScratch<T> block;
  T* x;             // [rows][hidden_row], the layer's input
  T* normal;        // [rows][hidden_row], y: behind the attention's norm
  T* grad_normal;   // [rows][hidden_row]
  T* grad_branch;   // [rows][hidden_row]
  T* grad_inner;    // [rows][kInnerColumns], of a part of the inner layer
  T* context;       // [rows][attention_row]
  T* grad_context;  // [rows][attention_row]
  T* grad_qkv;      // [rows][3 attention_row]
  // Of the last layer:
  T* grad_residual;  // [rows][hidden_row]
  T* grad_mixed;     // [rows][absorbed_row]
  T* grad_absorbed;  // [rows][absorbed_row]
  T* one_head;       // [rows][padded head_row]
  T* row_x;          // [longest row][hidden_row]

  BackwardScratch(const EncodeLayout& layout, const EncodePlan& plan, Scratch& scratch)
      : block(layout, plan, scratch) {
    const int64_t rows = plan.most_block_tokens();
    for (T** place : {&x, &normal, &grad_normal, &grad_branch, &grad_residual}) {
      *place = scratch.take<T>(rows * layout.hidden_row);
    }
    grad_inner = scratch.take<T>(rows * kInnerColumns);
    for (T** place : {&context, &grad_context}) {
      *place = scratch.take<T>(rows * layout.attention_row);
    }
    grad_qkv = scratch.take<T>(rows * 3 * layout.attention_row);
    for (T** place : {&grad_mixed, &grad_absorbed}) {
      *place = scratch.take<T>(kBlockTokens * layout.absorbed_row);
    }
    one_head = scratch.take<T>(kBlockTokens * padded(layout.head_row));
    row_x = scratch.take<T>(plan.longest() * layout.hidden_row);
  }
};

// c (+)= a^T b, starting a chunk's sum at its first block.
template <class T>
MCLREC_INLINE void add_weight_gradient(bool first, const typename Products<T>::Turned& a,
                                       const typename Products<T>::Paired& b,
                                       const ProductSize& size, Rows<T> c) {
  if (first) {
    Products<T>::template multiply_turned<TileStart::kZero>(a, b, size, c);
  } else {
    Products<T>::template multiply_turned<TileStart::kAdd>(a, b, size, c);
  }
}
// The same of rows as they lie.
template <class T>
MCLREC_INLINE void add_weight_gradient(bool first, Products<T>& products, Rows<const T> a,
                                       Rows<const T> b, const ProductSize& size, Rows<T> c) {
  const typename Products<T>::Room room(products);
  add_weight_gradient<T>(first, products.turned(a, size.depth, size.rows),
                         products.paired(b, size.depth, size.cols), size, c);
}

// out[c] += sum over rows of a[row][c]; whole vectors.
template <class T>
void add_column_sums(int64_t rows, int64_t cols, const T* a, int64_t lda, T* out) {
  for (int64_t c = 0; c < cols; c += 2 * kLanes<T>) {
    Vec<T> low = {}, high = {};
    for (int64_t row = 0; row < rows; ++row) {
      low += load(a + row * lda + c);
      high += load(a + row * lda + c + kLanes<T>);
    }
    store(out + c, load(out + c) + low);
    store(out + c + kLanes<T>, load(out + c + kLanes<T>) + high);
  }
}

// y = gamma xhat + beta, as the forward pass had it.
template <class T>
void norm_output(int64_t rows, NormShape shape, const T* xhat, const T* gamma, const T* beta,
                 T* y) {
  for (int64_t c = 0; c < shape.stride; c += kLanes<T>) {
    const Vec<T> g = load(gamma + c), b = load(beta + c);
    for (int64_t row = 0; row < rows; ++row) {
      store(y + row * shape.stride + c, fma(load(xhat + row * shape.stride + c), g, b));
    }
  }
}

// Input of a layer for tokens of the plan, from `first` on: [tokens][hidden_row].
template <class T>
void layer_input(const EncodeCall<T>& call, const Store<T>& saved, int64_t layer, int64_t first,
                 int64_t tokens, T* x) {
  const EncodeBlock block{0, 0, first, tokens};
  if (layer > 0) {
    const LayerVectors<T>& vectors = call.packed.vectors[layer - 1];
    return norm_output(tokens, call.norm(), saved.layer(layer - 1, block).feed_forward.xhat,
                       vectors.feed_forward_norm, vectors.feed_forward_norm_bias, x);
  }
  const NormStore<T> norm = saved.embedding(block);
  const KeepRows<T> keep(call, norm.mask);
  const T* gamma = call.packed.embedding_norm;
  const T* beta = call.packed.embedding_norm_bias;
  const int64_t stride = call.layout.hidden_row;
  for (int64_t row = 0; row < tokens; ++row) {
    for (int64_t c = 0; c < stride / kLanes<T>; ++c) {
      const int64_t at = c * kLanes<T>;
      const Vec<T> y = fma(load(norm.xhat + row * stride + at), load(gamma + at), load(beta + at));
      store(x + row * stride + at, keep(row, c, y));
    }
  }
}

// Where the gradients of the vectors of v = norm(u + dropout(branch)) are added up.
template <class T>
struct BranchSums {
  T* gamma;
  T* beta;
  T* bias;  // of the branch
};

// Backward of v = norm(u + dropout(branch)): grad is that of v; grad_u [rows][hidden_row] and
// grad_branch get theirs.
template <class T>
void add_and_norm_backward(const EncodeCall<T>& call, int64_t rows, const NormStore<T>& norm,
                           const T* gamma, const T* grad, const BranchSums<T>& sums, T* grad_u,
                           T* grad_branch) {
  T* grad_bias = sums.bias;
  const KeepRows<T> keep(call, norm.mask);
  const int64_t stride = call.layout.hidden_row;
  norm_backward<T>(rows, call.norm(), {gamma, grad, norm.xhat, norm.inverse, sums.gamma, sums.beta},
                   [=](int64_t row, int64_t c, const auto& dr) __attribute__((always_inline)) {
                     Vec<T> bias = {};
                     constexpr int kRows = sizeof(dr) / sizeof(dr[0]);
#pragma GCC unroll 4
                     for (int r = 0; r < kRows; ++r) {
                       const int64_t at = (row + r) * stride + c * kLanes<T>;
                       const Vec<T> branch = keep(row + r, c, dr[r]);
                       store(grad_u + at, dr[r]);
                       store(grad_branch + at, branch);
                       bias += branch;
                     }
                     T* sum = grad_bias + c * kLanes<T>;
                     store(sum, load(sum) + bias);
                   });
}

// Where the backward pass of a layer stands.
template <class T>
struct LayerPass {
  int64_t layer;
  bool first_block;  // of its chunk: sums start here
  int64_t rows;
  const LayerGradients<T>& gradients;
};

// Backward of ffn(y), y [rows][hidden_row] with gradient grad_out of its output: adds to grad_y.
template <class T>
void feed_forward_backward(const EncodeCall<T>& call, const LayerPass<T>& pass, const T* y,
                           const LayerStore<T>& saved, const T* grad_out, Products<T>& products,
                           T* grad_inner, T* grad_y) {
  const EncodeLayout& layout = call.layout;
  const LayerPanels<T>& panels = call.packed.panels[pass.layer];
  const LayerGradients<T>& gradients = pass.gradients;
  const bool first_block = pass.first_block;
  const int64_t rows = pass.rows;
  const int64_t hidden = layout.hidden, stride = layout.hidden_row, inner_row = layout.inner_row;
  const int64_t qkv_row = 3 * layout.attention_row;
  const typename Products<T>::Room room(products);
  const auto left_out = products.left({grad_out, stride}, rows, hidden);
  const auto turned_out = products.turned({grad_out, stride}, rows, hidden);
  const auto paired_y = products.paired({y, stride}, rows, stride);
  each_inner_part<T>(layout, [&](int64_t first, int64_t count, int64_t offset) {
    // d u = (d out W_2) GELU'(u)
    products.template multiply<TileStart::kZero>(
        left_out, panels.outer + Products<T>::panels_size(hidden, first),
        {.rows = rows, .cols = count, .depth = hidden}, {grad_inner, kInnerColumns}, nullptr,
        [&](int64_t col) __attribute__((always_inline)) {
          const T* slope = saved.slope + saved.inner(0, first + col);
          for (int64_t row = 0; row < rows; ++row) {
            for (int c = 0; c < kTileCols<T>; c += kLanes<T>) {
              T* at = grad_inner + row * kInnerColumns + col + c;
              store(at, load(at) * load(slope + row * kPadding + c));
            }
          }
        },
        [&](int64_t row, int64_t col, int count) __attribute__((always_inline)) {
          const int64_t at = saved.inner(row, first + col);
          prefetch_rows<kTileLines>(saved.activated + at, kPadding, count);
          prefetch_rows<kTileLines>(saved.slope + at, kPadding, count);
          if (saved.qkv == nullptr) return;
          // The attention's turn comes next: the same part of its rows as of the inner layer's.
          const int64_t part = (first + col) * qkv_row / inner_row;
          prefetch_rows<kTileLines>(saved.qkv + row * qkv_row + part, qkv_row, count);
        });
    add_column_sums(rows, count, grad_inner, kInnerColumns, gradients.inner_bias + first);
    const typename Products<T>::Room of_part(products);
    for (int64_t col = first; col < first + count; col += kTileCols<T>) {
      add_weight_gradient<T>(
          first_block, turned_out,
          products.paired({saved.activated + saved.inner(0, col), kPadding}, rows, kTileCols<T>),
          {.rows = hidden, .cols = kTileCols<T>, .depth = rows},
          {gradients.outer + col, inner_row});
    }
    const Rows<const T> inner{grad_inner, kInnerColumns};
    add_weight_gradient<T>(first_block, products.turned(inner, rows, count), paired_y,
                           {.rows = count, .cols = hidden, .depth = rows},
                           {gradients.inner + first * stride, stride});
    products.template multiply<TileStart::kAdd>(
        products.left(inner, rows, count), panels.inner + offset,
        {.rows = rows, .cols = hidden, .depth = count}, {grad_y, stride});
  });
}

// Everything behind the attention: grad_z [rows][hidden_row] of the layer's output becomes
// grad_residual (of the attention's residual input; may be the same array) and
// scratch.grad_context; the output matrix's own gradient is left to the caller
// (scratch.grad_branch).
template <class T>
void after_attention_backward(const EncodeCall<T>& call, const LayerPass<T>& pass,
                              const LayerStore<T>& saved, BackwardScratch<T>& scratch,
                              const T* grad_z, T* grad_residual) {
  const EncodeLayout& layout = call.layout;
  const LayerVectors<T>& vectors = call.packed.vectors[pass.layer];
  const LayerGradients<T>& gradients = pass.gradients;
  const int64_t rows = pass.rows;
  norm_output(rows, call.norm(), saved.attention.xhat, vectors.attention_norm,
              vectors.attention_norm_bias, scratch.normal);
  add_and_norm_backward<T>(call, rows, saved.feed_forward, vectors.feed_forward_norm, grad_z,
                           {.gamma = gradients.feed_forward_norm,
                            .beta = gradients.feed_forward_norm_bias,
                            .bias = gradients.outer_bias},
                           scratch.grad_normal, scratch.grad_branch);
  Products<T>& products = scratch.block.products;
  feed_forward_backward(call, pass, scratch.normal, saved, scratch.grad_branch, products,
                        scratch.grad_inner, scratch.grad_normal);
  add_and_norm_backward<T>(call, rows, saved.attention, vectors.attention_norm, scratch.grad_normal,
                           {.gamma = gradients.attention_norm,
                            .beta = gradients.attention_norm_bias,
                            .bias = gradients.output_bias},
                           grad_residual, scratch.grad_branch);
  const typename Products<T>::Room room(products);
  products.template multiply<TileStart::kZero>(
      products.left({scratch.grad_branch, layout.hidden_row}, rows, layout.hidden),
      call.packed.panels[pass.layer].output,
      {.rows = rows, .cols = layout.attention_row, .depth = layout.hidden},
      {scratch.grad_context, layout.attention_row});
}

// grad [tokens][hidden_row]: gradient of the layer's output, replaced by that of its input.
template <class T>
void full_layer_backward(const EncodeCall<T>& call, const EncodeBlock& block, int64_t layer,
                         bool first_block, const Store<T>& store_of,
                         const LayerGradients<T>& gradients, BackwardScratch<T>& scratch, T* grad) {
  const EncodeLayout& layout = call.layout;
  const LayerPanels<T>& panels = call.packed.panels[layer];
  const LayerStore<T> saved = store_of.layer(layer, block);
  const int64_t rows = block.tokens, stride = layout.hidden_row;
  const int64_t attention_row = layout.attention_row, qkv_row = 3 * attention_row;
  const LayerPass<T> pass{
      .layer = layer, .first_block = first_block, .rows = rows, .gradients = gradients};
  after_attention_backward(call, pass, saved, scratch, grad, grad);
  attention_bits(call, block, layer, scratch.block.bits);
  for (int64_t row = block.begin; row < block.end; ++row) {
    const int64_t token = call.plan.first(row) - block.first_token;
    for (int64_t h = 0; h < layout.heads; ++h) {
      const int64_t at = token * attention_row + h * layout.head_row;
      AttentionHeadGradients<T> g;
      g.grad_context = scratch.grad_context + at;
      g.context = scratch.context + at;
      g.context_stride = attention_row;
      g.grad_query = scratch.grad_qkv + token * qkv_row + h * layout.head_row;
      g.grad_key = g.grad_query + attention_row;
      g.grad_value = g.grad_key + attention_row;
      g.stride = qkv_row;
      attention_head_backward(block_head(call, block, scratch.block, saved.qkv, row, h), g,
                              scratch.block.attention);
    }
  }
  Products<T>& products = scratch.block.products;
  add_weight_gradient<T>(first_block, products, {scratch.grad_branch, stride},
                         {scratch.context, attention_row},
                         {.rows = layout.hidden, .cols = layout.attention, .depth = rows},
                         {gradients.output, attention_row});
  layer_input(call, store_of, layer, block.first_token, rows, scratch.x);
  add_weight_gradient<T>(first_block, products, {scratch.grad_qkv, qkv_row}, {scratch.x, stride},
                         {.rows = qkv_row, .cols = layout.hidden, .depth = rows},
                         {gradients.qkv, stride});
  add_column_sums(rows, qkv_row, scratch.grad_qkv, qkv_row, gradients.qkv_bias);
  const T* matrices[3] = {panels.query, panels.key, panels.value};
  for (int m = 0; m < 3; ++m) {
    const typename Products<T>::Room room(products);
    products.template multiply<TileStart::kAdd>(
        products.left({scratch.grad_qkv + m * attention_row, qkv_row}, rows, layout.attention),
        matrices[m], {.rows = rows, .cols = layout.hidden, .depth = layout.attention},
        {grad, stride});
  }
}

// grad [tokens][hidden_row]: gradient of the first layer's input, replaced by that of the sum of
// item and position embedding.
template <class T>
void embedding_backward(const EncodeCall<T>& call, const EncodeBlock& block, const Store<T>& saved,
                        T* grad_norm, T* grad_norm_bias, T* grad) {
  const NormStore<T> norm = saved.embedding(block);
  const int64_t stride = call.layout.hidden_row;
  if (call.dropout.hidden.active()) {
    const KeepRows<T> keep(call, norm.mask);
    for (int64_t row = 0; row < block.tokens; ++row) {
      for (int64_t c = 0; c < stride / kLanes<T>; ++c) {
        T* at = grad + row * stride + c * kLanes<T>;
        store(at, keep(row, c, load(at)));
      }
    }
  }
  norm_backward<T>(
      block.tokens, call.norm(),
      {call.packed.embedding_norm, grad, norm.xhat, norm.inverse, grad_norm, grad_norm_bias},
      [=](int64_t row, int64_t c, const auto& dr) __attribute__((always_inline)) {
        constexpr int kRows = sizeof(dr) / sizeof(dr[0]);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          store(grad + (row + r) * stride + c * kLanes<T>, dr[r]);
        }
      });
}
