// The encoder's last layer, for the last token of each row: its key and value projections are
// absorbed into the single query. With q_h the query of head h and x_j the layer's input,
//   score_j = u_h . x_j / sqrt(d), u_h = W_k,h^T q_h     (q_h . b_k is the same for all j)
//   context_h = W_v,h w_h + b_v,h sum_j p_j, w_h = sum_j p_j x_j   (under dropout sum p != 1)
// No #include and no namespace here: see encode_cpu.cpp.

// out[j] = vector . rows[j] for j < count; `stride` apart, `size` elements, a multiple of kLanes.
template <class T>
__attribute__((noinline)) void row_products(const T* vector, const T* rows, int64_t stride,
                                            int64_t count, int64_t size, T* out) {
  constexpr int kGroup = 4;
  int64_t j = 0;
  for (; j + kGroup <= count; j += kGroup) {
    Vec<T> sum[kGroup] = {};
    for (int64_t c = 0; c < size; c += kLanes<T>) {
      const Vec<T> v = load(vector + c);
#pragma GCC unroll 4
      for (int r = 0; r < kGroup; ++r) sum[r] = fma(v, load(rows + (j + r) * stride + c), sum[r]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kGroup; ++r) out[j + r] = lane_sum<T>(sum[r]);
  }
  for (; j < count; ++j) {
    Vec<T> sum = {};
    for (int64_t c = 0; c < size; c += kLanes<T>) {
      sum = fma(load(vector + c), load(rows + j * stride + c), sum);
    }
    out[j] = lane_sum<T>(sum);
  }
}

// Scores of one query to probabilities in place; `items` [n] are the keys' ids, 0 = not visible.
template <class T>
MCLREC_INLINE void softmax_row(const int32_t* items, int64_t n, T scale, T* p) {
  constexpr int kL = kLanes<T>;
  const T lowest = std::numeric_limits<T>::lowest();
  Vec<T> largest = broadcast(lowest), sum = {};
  for (int64_t j = 0; j < padded(n, kL); ++j) p[j] = j < n && items[j] != 0 ? p[j] * scale : lowest;
  for (int64_t j = 0; j < n; j += kL) largest = max(largest, load(p + j));
  largest = broadcast(lane_max<T>(largest));
  for (int64_t j = 0; j < n; j += kL) {
    const Vec<T> score = load(p + j);
    const Vec<T> e = keep_where<T>(score != lowest, exp_nonpositive(score - largest));
    store(p + j, e);
    sum += e;
  }
  const T total = lane_sum<T>(sum);
  // 0 where nothing is visible; where all that is has a score of -infinity, 0 / 0 as ever.
  const bool some =
      total != T(0) || std::any_of(items, items + n, [](int32_t i) { return i != 0; });
  const Vec<T> inverse = broadcast(some ? T(1) / total : T(0));
  for (int64_t j = 0; j < n; j += kL) store(p + j, load(p + j) * inverse);
}

// What the last token of one row attends to, and what comes of it.
template <class T>
struct LastAttention {
  int64_t tokens;        // n
  const int32_t* items;  // [n]
  const T* x;            // [n][hidden_row]
  const T* absorbed;     // [H][hidden_row]
  const T* key_bias;     // [H][head_row]
  const uint32_t* bits;  // dropout bits
  const int64_t* start;  // [H] where each head's bits begin; null = no dropout
  T* p;                  // scratch [2 H][padded(n)]
  T* mixed;              // [H][hidden_row]
  T* kept;               // [H]
  T* probabilities;      // [n][H], negative (also -0) where dropped
};

// Attention of one row's last token for all heads: writes mixed, kept and probabilities.
template <class T>
void last_attention_row(const EncodeCall<T>& call, const LastAttention<T>& last) {
  const EncodeLayout& layout = call.layout;
  const int64_t n = last.tokens, stride = layout.hidden_row, row = padded(n);
  const uint32_t* bits = last.bits;
  const int64_t* start = last.start;
  T* p = last.p;
  T* probabilities = last.probabilities;
  const T scale = T(1) / std::sqrt(static_cast<T>(layout.head));
  const T keep_scale = call.dropout.attention.template scale<T>();
  for (int64_t h = 0; h < layout.heads; ++h) {
    T* head = p + h * row;
    row_products(last.absorbed + h * stride, last.x, stride, n, padded(layout.hidden, kLanes<T>),
                 head);
    // q . b_k is the same for all keys and left out, but for making NaN of what is not finite.
    T zero = 0;
    for (int64_t e = 0; e < layout.head_row; ++e) {
      const T bias = last.key_bias[h * layout.head_row + e];
      zero += bias - bias;
    }
    softmax_row(last.items, n, scale + zero, head);
    T sum = 0;
    for (int64_t j = 0; j < n; ++j) {
      const bool keep = start == nullptr || ((bits[start[h] + j / 32] >> (j % 32)) & 1u) != 0;
      const T size = std::abs(head[j]);  // the sign of a NaN says nothing
      probabilities[j * layout.heads + h] = keep ? size : -size;
      if (start != nullptr) head[j] = keep ? head[j] * keep_scale : T(0);
      sum += head[j];
    }
    last.kept[h] = sum;
  }
  int64_t h = 0;
  for (; h + 2 <= layout.heads; h += 2) {
    mix_rows<false, 2, T>(p + h * row, {.row = row, .term = 1}, n, {last.x, stride}, stride,
                          {last.mixed + h * stride, stride});
  }
  if (h < layout.heads) {
    mix_rows<false, 1, T>(p + h * row, {.row = row, .term = 1}, n, {last.x, stride}, stride,
                          {last.mixed + h * stride, stride});
  }
}

// rows: rows of the plan, x [their tokens][hidden_row]; h [S][D], rows of the batch as passed in.
template <class T>
void last_layer_forward(const EncodeCall<T>& call, const EncodeBlock& rows,
                        const LastStore<T>& arrays, T* probabilities, ForwardScratch<T>& scratch,
                        const T* x, T* h) {
  const EncodeLayout& layout = call.layout;
  const EncodePlan& plan = call.plan;
  const int64_t layer = layout.layers - 1, count = rows.end - rows.begin;
  const int64_t stride = layout.hidden_row, attention_row = layout.attention_row;
  const LayerPanels<T>& panels = call.packed.panels[layer];
  const LayerVectors<T>& vectors = call.packed.vectors[layer];
  BlockScratch<T>& block = scratch.block;
  for (int64_t r = 0; r < count; ++r) {
    const int64_t token = plan.first(rows.begin + r + 1) - 1 - rows.first_token;
    std::memcpy(scratch.residual + r * stride, x + token * stride, stride * sizeof(T));
  }
  Products<T>& products = block.products;
  const typename Products<T>::Room room(products);
  products.template multiply<TileStart::kBias>(
      products.left({scratch.residual, stride}, count, layout.hidden), panels.query,
      {.rows = count, .cols = attention_row, .depth = layout.hidden}, {arrays.query, attention_row},
      vectors.qkv_bias);
  for (int64_t head = 0; head < layout.heads; ++head) {
    const typename Products<T>::Room of_head(products);
    products.template multiply<TileStart::kZero>(
        products.left({arrays.query + head * layout.head_row, attention_row}, count, layout.head),
        panels.key + head * Products<T>::panels_size(layout.head, layout.hidden),
        {.rows = count, .cols = layout.hidden, .depth = layout.head},
        {arrays.absorbed + head * stride, layout.absorbed_row});
  }
  last_attention_bits(call, rows, layer, block.bits);
  for (int64_t r = 0; r < count; ++r) {
    const int64_t row = rows.begin + r, token = plan.first(row) - rows.first_token;
    last_attention_row<T>(
        call,
        {.tokens = plan.length(row),
         .items = call.batch.items + call.batch.offsets[plan.sequence(row)],
         .x = x + token * stride,
         .absorbed = arrays.absorbed + r * layout.absorbed_row,
         .key_bias = vectors.qkv_bias + attention_row,
         .bits = block.bits.memory,
         .start = call.dropout.attention.active() ? block.bits.start + r * layout.heads : nullptr,
         .p = block.attention,
         .mixed = arrays.mixed + r * layout.absorbed_row,
         .kept = arrays.kept + r * layout.heads,
         .probabilities = probabilities + token * layout.heads});
  }
  const T* bias = vectors.qkv_bias + 2 * attention_row;
  const int64_t one_row = padded(layout.head_row);
  for (int64_t head = 0; head < layout.heads; ++head) {
    const typename Products<T>::Room of_head(products);
    products.template multiply<TileStart::kZero>(
        products.left({arrays.mixed + head * stride, layout.absorbed_row}, count, layout.hidden),
        panels.value + head * Products<T>::panels_size(layout.hidden, layout.head),
        {.rows = count, .cols = layout.head, .depth = layout.hidden}, {scratch.one_head, one_row});
    for (int64_t r = 0; r < count; ++r) {
      const T kept = arrays.kept[r * layout.heads + head];
      for (int64_t e = 0; e < layout.head_row; ++e) {
        const int64_t column = head * layout.head_row + e;
        arrays.context[r * attention_row + column] =
            e < layout.head ? scratch.one_head[r * one_row + e] + kept * bias[column] : T(0);
      }
    }
  }
  hidden_bits(call, rows, layer, kSiteAttentionOutput, true, block.runs,
              arrays.rows.attention.mask);
  hidden_bits(call, rows, layer, kSiteFeedForward, true, block.runs, arrays.rows.feed_forward.mask);
  T* z = scratch.residual;
  after_attention(call, layer, count, z, arrays.context, arrays.rows, scratch, z);
  for (int64_t r = 0; r < count; ++r) {
    std::memcpy(h + plan.sequence(rows.begin + r) * layout.hidden, z + r * stride,
                layout.hidden * sizeof(T));
  }
}
