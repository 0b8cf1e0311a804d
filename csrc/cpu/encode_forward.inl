// The encoder forward: blocks of whole rows go through the embedding and all full layers while they
// sit in cache, then the last layer takes the last tokens of a chunk.
// No #include and no namespace here: see encode_cpu.cpp.

template <class T>
struct ForwardScratch {
  BlockScratch<T> block;
  T* x;          // [tokens of a chunk][hidden_row], input of the next layer
  T* normal;     // [rows][hidden_row], y: behind the attention's norm
  T* branch;     // [rows][hidden_row], output of a branch before it is added
  T* context;    // [rows][attention_row]
  T* activated;  // [rows][kInnerColumns], GELU of a part of the inner layer
  T* residual;   // [rows][hidden_row], the last tokens
  T* one_head;   // [rows][padded head_row], of the last layer

  ForwardScratch(const EncodeLayout& layout, const EncodePlan& plan, Scratch& scratch)
      : block(layout, plan, scratch) {
    const int64_t rows = plan.most_block_tokens();
    x = scratch.take<T>(plan.most_chunk_tokens() * layout.hidden_row);
    normal = scratch.take<T>(rows * layout.hidden_row);
    branch = scratch.take<T>(rows * layout.hidden_row);
    context = scratch.take<T>(rows * layout.attention_row);
    activated = scratch.take<T>(rows * kInnerColumns);
    residual = scratch.take<T>(kBlockTokens * layout.hidden_row);
    one_head = scratch.take<T>(kBlockTokens * padded(layout.head_row));
  }
};

// Dropout of a branch: value * scale where the row's bits keep it.
template <class T>
struct KeepRows {
  const uint8_t* mask;  // null = keep everything
  int64_t mask_bytes;
  T scale;

  KeepRows(const EncodeCall<T>& call, const uint8_t* bits)
      : mask(call.dropout.hidden.active() ? bits : nullptr),
        mask_bytes(call.mask_bytes()),
        scale(call.dropout.hidden.template scale<T>()) {}

  MCLREC_INLINE Vec<T> operator()(int64_t row, int64_t c, Vec<T> value) const {
    if (mask == nullptr) return value;
    return keep_scaled<T>(mask + row * mask_bytes, c, value, scale);
  }
};

// `count` elements of vector c of a row of `hidden` elements that is not padded.
template <class T>
MCLREC_INLINE Vec<T> load_of(const T* row, int64_t c, int64_t hidden) {
  const int64_t left = hidden - c * kLanes<T>;
  return left >= kLanes<T> ? load(row + c * kLanes<T>)
                           : load_first(row + c * kLanes<T>, static_cast<int>(left));
}

// x = dropout(norm(item embedding + position embedding)).
template <class T>
void embedding_forward(const EncodeCall<T>& call, const EncodeBlock& block,
                       const NormStore<T>& arrays, BlockScratch<T>& scratch, T* x) {
  const EncodeLayout& layout = call.layout;
  const T* items = call.weights[kItemEmbedding];
  const T* positions = call.weights[kPositionEmbedding];
  find_tokens(call, block, scratch);
  hidden_bits(call, block, 0, kSiteEmbedding, false, scratch.runs, arrays.mask);
  const KeepRows<T> keep(call, arrays.mask);
  const int64_t* item = scratch.item;
  const int64_t* position = scratch.position;
  norm_forward<T>(
      block.tokens, call.norm(),
      {call.packed.embedding_norm, call.packed.embedding_norm_bias, call.eps},
      [=, hidden = layout.hidden](int64_t row, int64_t c) __attribute__((always_inline)) {
        return load_of(items + item[row], c, hidden) +
               load_of(positions + position[row], c, hidden);
      },
      {arrays.xhat, arrays.inverse},
      [=, stride = layout.hidden_row](int64_t row, int64_t c, Vec<T> y) __attribute__((
          always_inline)) { store(x + row * stride + c * kLanes<T>, keep(row, c, y)); });
}

// GELU in place for one column of tiles, its rows kInnerColumns apart. Where a backward pass
// follows, `kept` and `slope` (rows kPadding apart) get it too, and its derivative.
template <class T>
MCLREC_INLINE void activate(int64_t rows, T* x, T* kept, T* slope) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int c = 0; c < kTileCols<T>; c += kLanes<T>) {
      T* at = x + r * kInnerColumns + c;
      const Vec<T> u = load(at);
      const Normal<T> normal_at = normal(u);
      const Vec<T> activated = u * normal_at.cdf;
      store(at, activated);
      if (slope == nullptr) continue;
      store(kept + r * kPadding + c, activated);
      store(slope + r * kPadding + c, fma(u, normal_at.pdf, normal_at.cdf));
    }
  }
}

// y [rows][hidden_row] W^T + bias through GELU and back, in parts of kInnerColumns that stay in L1:
// out = W2 gelu(W1 y + b1) + b2.
template <class T>
void feed_forward(const EncodeCall<T>& call, int64_t layer, int64_t rows, const T* y,
                  const LayerStore<T>& arrays, Products<T>& products, T* activated, T* out) {
  const EncodeLayout& layout = call.layout;
  const LayerPanels<T>& panels = call.packed.panels[layer];
  const LayerVectors<T>& vectors = call.packed.vectors[layer];
  const int64_t hidden = layout.hidden, row_size = layout.hidden_row;
  const typename Products<T>::Room room(products);
  const auto left = products.left({y, row_size}, rows, hidden);
  each_inner_part<T>(layout, [&](int64_t first, int64_t count, int64_t offset) {
    products.template multiply<TileStart::kBias>(
        left, panels.inner + Products<T>::panels_size(hidden, first),
        {.rows = rows, .cols = count, .depth = hidden}, {activated, kInnerColumns},
        vectors.inner_bias + first,
        [&](int64_t col) __attribute__((always_inline)) {
          if (arrays.slope == nullptr) return activate<T>(rows, activated + col, nullptr, nullptr);
          const int64_t at = arrays.inner(0, first + col);
          activate(rows, activated + col, arrays.activated + at, arrays.slope + at);
        },
        [&](int64_t row, int64_t col, int count) __attribute__((always_inline)) {
          if (arrays.slope == nullptr) return;
          const int64_t at = arrays.inner(row, first + col);  // written behind this panel
          prefetch_rows<kTileLines>(arrays.activated + at, kPadding, count);
          prefetch_rows<kTileLines>(arrays.slope + at, kPadding, count);
        });
    const ProductSize size{.rows = rows, .cols = hidden, .depth = count};
    const typename Products<T>::Room of_part(products);
    const auto inner = products.left({activated, kInnerColumns}, rows, count);
    if (first == 0) {
      products.template multiply<TileStart::kBias>(inner, panels.outer + offset, size,
                                                   {out, row_size}, vectors.outer_bias);
    } else {
      products.template multiply<TileStart::kAdd>(inner, panels.outer + offset, size,
                                                  {out, row_size});
    }
  });
}

// Everything behind the attention: z = norm(y + dropout(ffn(y))), y = norm(x + dropout(W_o
// context)). x and z may be the same array.
template <class T>
void after_attention(const EncodeCall<T>& call, int64_t layer, int64_t rows, const T* x,
                     const T* context, const LayerStore<T>& arrays, ForwardScratch<T>& scratch,
                     T* z) {
  const EncodeLayout& layout = call.layout;
  const LayerVectors<T>& vectors = call.packed.vectors[layer];
  const int64_t stride = layout.hidden_row;
  T* branch = scratch.branch;
  T* y = scratch.normal;
  Products<T>& products = scratch.block.products;
  const typename Products<T>::Room room(products);
  products.template multiply<TileStart::kBias>(
      products.left({context, layout.attention_row}, rows, layout.attention),
      call.packed.panels[layer].output,
      {.rows = rows, .cols = layout.hidden, .depth = layout.attention}, {branch, stride},
      vectors.output_bias);
  // v [rows][stride] = norm(u + dropout(branch))
  const auto add_and_norm = [&](const T* u, const T* gamma, const T* beta, const NormStore<T>& norm,
                                T* v) {
    const KeepRows<T> keep(call, norm.mask);
    norm_forward<T>(
        rows, call.norm(), {gamma, beta, call.eps},
        [=](int64_t row, int64_t c) __attribute__((always_inline)) {
          const int64_t at = row * stride + c * kLanes<T>;
          return load(u + at) + keep(row, c, load(branch + at));
        },
        {norm.xhat, norm.inverse},
        [=](int64_t row, int64_t c, Vec<T> value)
            __attribute__((always_inline)) { store(v + row * stride + c * kLanes<T>, value); });
  };
  add_and_norm(x, vectors.attention_norm, vectors.attention_norm_bias, arrays.attention, y);
  feed_forward(call, layer, rows, y, arrays, products, scratch.activated, branch);
  add_and_norm(y, vectors.feed_forward_norm, vectors.feed_forward_norm_bias, arrays.feed_forward,
               z);
}

// One sequence's head inside a block's rows of queries, keys and values.
template <class T>
AttentionHead<T> block_head(const EncodeCall<T>& call, const EncodeBlock& block,
                            const BlockScratch<T>& scratch, const T* qkv, int64_t row, int64_t h) {
  const EncodeLayout& layout = call.layout;
  const int64_t token = call.plan.first(row) - block.first_token, n = call.plan.length(row);
  AttentionHead<T> head;
  head.stride = 3 * layout.attention_row;
  head.query = qkv + token * head.stride + h * layout.head_row;
  head.key = head.query + layout.attention_row;
  head.value = head.key + layout.attention_row;
  head.tokens = n;
  head.size = layout.head_row;
  head.scale = T(1) / std::sqrt(static_cast<T>(layout.head));
  head.visible = scratch.visible + token;
  head.keep = nullptr;
  head.keep_words = padded(n, 32) / 32;
  head.keep_scale = call.dropout.attention.template scale<T>();
  if (call.dropout.attention.active()) {
    head.keep =
        scratch.bits.memory + scratch.bits.start[row - block.begin] + h * n * head.keep_words;
  }
  return head;
}

// x [tokens][hidden_row] of a block through one full layer, in place.
template <class T>
void full_layer_forward(const EncodeCall<T>& call, const EncodeBlock& block, int64_t layer,
                        const LayerStore<T>& arrays, ForwardScratch<T>& scratch, T* x) {
  const EncodeLayout& layout = call.layout;
  const int64_t qkv_row = 3 * layout.attention_row;
  Products<T>& products = scratch.block.products;
  const typename Products<T>::Room room(products);
  products.template multiply<TileStart::kBias>(
      products.left({x, layout.hidden_row}, block.tokens, layout.hidden),
      call.packed.panels[layer].query,
      {.rows = block.tokens, .cols = qkv_row, .depth = layout.hidden}, {arrays.qkv, qkv_row},
      call.packed.vectors[layer].qkv_bias);
  attention_bits(call, block, layer, scratch.block.bits);
  for (int64_t row = block.begin; row < block.end; ++row) {
    T* context =
        scratch.context + (call.plan.first(row) - block.first_token) * layout.attention_row;
    for (int64_t h = 0; h < layout.heads; ++h) {
      attention_head_forward(block_head(call, block, scratch.block, arrays.qkv, row, h),
                             context + h * layout.head_row, layout.attention_row,
                             scratch.block.attention);
    }
  }
  uint8_t* runs = scratch.block.runs;
  hidden_bits(call, block, layer, kSiteAttentionOutput, false, runs, arrays.attention.mask);
  hidden_bits(call, block, layer, kSiteFeedForward, false, runs, arrays.feed_forward.mask);
  after_attention(call, layer, block.tokens, x, scratch.context, arrays, scratch, x);
}
