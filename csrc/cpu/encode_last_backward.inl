// The last layer backward (see encode_last.inl): with g = d loss / d context_h,
//   d w_h = W_v,h^T g, d p_j = d w_h . x_j + g . b_v,h, d x_j += p_j d w_h + d s_j u_h,
//   d u_h = sum_j d s_j x_j, d q_h = W_k,h d u_h, d W_k,h = q_h d u_h^T, d W_v,h = g w_h^T.
// The gradient of the key bias is 0: it adds the same to every score of a row. It is NaN where the
// query's is not finite.
// No #include and no namespace here: see encode_cpu.cpp.

// One row of last_attention_row, and its gradients.
template <class T>
struct LastAttentionBackward {
  int64_t tokens;          // n
  const T* x;              // [n][hidden_row]
  const T* probabilities;  // [n][H], negative (also -0) where dropped
  const T* absorbed;       // [H][hidden_row]
  const T* grad_mixed;     // [H][hidden_row]
  const T* grad_kept;      // [H], g . b_v,h
  T* weights;              // scratch [2 H][padded(n)]
  T* grad_absorbed;        // [H][hidden_row]
  T* grad_x;               // [n][hidden_row]
};

// One row's attention for all heads: writes grad_absorbed and grad_x.
template <class T>
void last_attention_row_backward(const EncodeCall<T>& call, const LastAttentionBackward<T>& last) {
  const EncodeLayout& layout = call.layout;
  const int64_t n = last.tokens;
  const T* probabilities = last.probabilities;
  const int64_t heads = layout.heads, stride = layout.hidden_row, row = padded(n);
  const int64_t size = padded(layout.hidden, kLanes<T>);
  const T scale = T(1) / std::sqrt(static_cast<T>(layout.head));
  const T keep_scale = call.dropout.attention.template scale<T>();
  T* dropped = last.weights;              // [H][row]
  T* grad_score = dropped + heads * row;  // [H][row]
  const Rows<const T> x{last.x, stride}, absorbed{last.absorbed, stride};
  const Rows<const T> grad_mixed{last.grad_mixed, stride};
  const Rows<T> grad_absorbed{last.grad_absorbed, stride}, grad_x{last.grad_x, stride};
  for (int64_t h = 0; h < heads; ++h) {
    T* ds = grad_score + h * row;
    row_products(grad_mixed.row(h), x.at, stride, n, size, ds);
    T sum = 0;
    for (int64_t j = 0; j < n; ++j) {
      const T p = probabilities[j * heads + h];  // negative, or -0, where dropped
      const bool keep = !std::signbit(p);
      dropped[h * row + j] = keep ? p * keep_scale : T(0);
      ds[j] = keep ? (ds[j] + last.grad_kept[h]) * keep_scale : T(0);
      sum += std::abs(p) * ds[j];
    }
    for (int64_t j = 0; j < n; ++j) {
      ds[j] = std::abs(probabilities[j * heads + h]) * (ds[j] - sum) * scale;
    }
  }
  int64_t h = 0;
  for (; h + 2 <= heads; h += 2) {
    mix_rows<false, 2, T>(grad_score + h * row, {.row = row, .term = 1}, n, x, size,
                          grad_absorbed.from(h, 0));
  }
  if (h < heads) {
    mix_rows<false, 1, T>(grad_score + h * row, {.row = row, .term = 1}, n, x, size,
                          grad_absorbed.from(h, 0));
  }
  int64_t j = 0;
  for (; j + 2 <= n; j += 2) {
    mix_rows<false, 2, T>(dropped + j, {.row = 1, .term = row}, heads, grad_mixed, size,
                          grad_x.from(j, 0));
    mix_rows<true, 2, T>(grad_score + j, {.row = 1, .term = row}, heads, absorbed, size,
                         grad_x.from(j, 0));
  }
  if (j < n) {
    mix_rows<false, 1, T>(dropped + j, {.row = 1, .term = row}, heads, grad_mixed, size,
                          grad_x.from(j, 0));
    mix_rows<true, 1, T>(grad_score + j, {.row = 1, .term = row}, heads, absorbed, size,
                         grad_x.from(j, 0));
  }
}

// From scratch.grad_context to scratch.grad_mixed, the value matrix's gradients and, per row and
// head, g . b_v,h (in scratch.block.attention, [rows][H]).
template <class T>
void last_values_backward(const EncodeCall<T>& call, bool first_block, int64_t rows,
                          const LastStore<T>& saved, const LayerGradients<T>& gradients,
                          BackwardScratch<T>& scratch, T* grad_kept) {
  const EncodeLayout& layout = call.layout;
  const int64_t layer = layout.layers - 1, row = layout.attention_row, stride = layout.hidden_row;
  const T* bias = call.packed.vectors[layer].qkv_bias + 2 * row;
  T* grad_bias = gradients.qkv_bias + 2 * row;
  T* grad_value = gradients.qkv + 2 * row * stride;
  Products<T>& products = scratch.block.products;
  for (int64_t h = 0; h < layout.heads; ++h) {
    const int64_t column = h * layout.head_row;
    const typename Products<T>::Room room(products);
    products.template multiply<TileStart::kZero>(
        products.left({scratch.grad_context + column, row}, rows, layout.head),
        call.packed.panels[layer].value + h * Products<T>::panels_size(layout.head, layout.hidden),
        {.rows = rows, .cols = layout.hidden, .depth = layout.head},
        {scratch.grad_mixed + h * stride, layout.absorbed_row});
    add_weight_gradient<T>(first_block, products, {scratch.grad_context + column, row},
                           {saved.mixed + h * stride, layout.absorbed_row},
                           {.rows = layout.head, .cols = layout.hidden, .depth = rows},
                           {grad_value + column * stride, stride});
    for (int64_t r = 0; r < rows; ++r) {
      const T* grad = scratch.grad_context + r * row + column;
      const T kept = saved.kept[r * layout.heads + h];
      T sum = 0;
      for (int64_t e = 0; e < layout.head; ++e) {
        sum += grad[e] * bias[column + e];
        grad_bias[column + e] += grad[e] * kept;
      }
      grad_kept[r * layout.heads + h] = sum;
    }
  }
}

// From scratch.grad_absorbed to the queries' gradient (in scratch.grad_qkv, [rows][attention_row])
// and those of the key and query matrices; adds to scratch.grad_residual.
template <class T>
void last_queries_backward(const EncodeCall<T>& call, bool first_block, int64_t rows,
                           const LastStore<T>& saved, const LayerGradients<T>& gradients,
                           BackwardScratch<T>& scratch) {
  const EncodeLayout& layout = call.layout;
  const LayerPanels<T>& panels = call.packed.panels[layout.layers - 1];
  const int64_t row = layout.attention_row, stride = layout.hidden_row;
  const int64_t one_row = padded(layout.head_row);
  T* grad_query = scratch.grad_qkv;
  Products<T>& products = scratch.block.products;
  for (int64_t h = 0; h < layout.heads; ++h) {
    const int64_t column = h * layout.head_row;
    const typename Products<T>::Room room(products);
    products.template multiply<TileStart::kZero>(
        products.left({scratch.grad_absorbed + h * stride, layout.absorbed_row}, rows,
                      layout.hidden),
        panels.key + h * Products<T>::panels_size(layout.hidden, layout.head),
        {.rows = rows, .cols = layout.head, .depth = layout.hidden}, {scratch.one_head, one_row});
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t e = 0; e < layout.head_row; ++e) {
        grad_query[r * row + column + e] =
            e < layout.head ? scratch.one_head[r * one_row + e] : T(0);
      }
    }
    add_weight_gradient<T>(first_block, products, {saved.query + column, row},
                           {scratch.grad_absorbed + h * stride, layout.absorbed_row},
                           {.rows = layout.head, .cols = layout.hidden, .depth = rows},
                           {gradients.qkv + (row + column) * stride, stride});
  }
  add_weight_gradient<T>(first_block, products, {grad_query, row}, {scratch.x, stride},
                         {.rows = layout.attention, .cols = layout.hidden, .depth = rows},
                         {gradients.qkv, stride});
  add_column_sums(rows, layout.attention, grad_query, row, gradients.qkv_bias);
  for (int64_t c = 0; c < layout.attention; ++c) {
    gradients.qkv_bias[row + c] += gradients.qkv_bias[c] - gradients.qkv_bias[c];
  }
  const typename Products<T>::Room room(products);
  products.template multiply<TileStart::kAdd>(
      products.left({grad_query, row}, rows, layout.attention), panels.query,
      {.rows = rows, .cols = layout.hidden, .depth = layout.attention},
      {scratch.grad_residual, stride});
}

// grad_h [S][D]; grad [tokens of the rows][hidden_row] gets the gradient of the layer's input.
template <class T>
void last_layer_backward(const EncodeCall<T>& call, const EncodeBlock& block, bool first_block,
                         const Store<T>& store_of, const LayerGradients<T>& gradients,
                         BackwardScratch<T>& scratch, const T* grad_h, T* grad) {
  const EncodeLayout& layout = call.layout;
  const EncodePlan& plan = call.plan;
  const int64_t layer = layout.layers - 1, rows = block.end - block.begin;
  const int64_t stride = layout.hidden_row;
  const LastStore<T> saved = store_of.last(block);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = block.begin + r;
    pad_vector(grad_h + plan.sequence(row) * layout.hidden, layout.hidden, stride,
               scratch.grad_residual + r * stride);
    layer_input(call, store_of, layer, plan.first(row + 1) - 1, 1, scratch.x + r * stride);
  }
  const LayerPass<T> pass{
      .layer = layer, .first_block = first_block, .rows = rows, .gradients = gradients};
  after_attention_backward(call, pass, saved.rows, scratch, scratch.grad_residual,
                           scratch.grad_residual);
  add_weight_gradient<T>(first_block, scratch.block.products, {scratch.grad_branch, stride},
                         {saved.context, layout.attention_row},
                         {.rows = layout.hidden, .cols = layout.attention, .depth = rows},
                         {gradients.output, layout.attention_row});
  T* grad_kept = scratch.context;
  last_values_backward(call, first_block, rows, saved, gradients, scratch, grad_kept);
  const T* probabilities = store_of.probabilities(block);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = block.begin + r, n = plan.length(row);
    const int64_t token = plan.first(row) - block.first_token;
    layer_input(call, store_of, layer, plan.first(row), n, scratch.row_x);
    last_attention_row_backward<T>(
        call, {.tokens = n,
               .x = scratch.row_x,
               .probabilities = probabilities + token * layout.heads,
               .absorbed = saved.absorbed + r * layout.absorbed_row,
               .grad_mixed = scratch.grad_mixed + r * layout.absorbed_row,
               .grad_kept = grad_kept + r * layout.heads,
               .weights = scratch.block.attention,
               .grad_absorbed = scratch.grad_absorbed + r * layout.absorbed_row,
               .grad_x = grad + token * stride});
  }
  last_queries_backward(call, first_block, rows, saved, gradients, scratch);
  for (int64_t r = 0; r < rows; ++r) {
    T* to = grad + (plan.first(block.begin + r + 1) - 1 - block.first_token) * stride;
    for (int64_t d = 0; d < layout.hidden; ++d) to[d] += scratch.grad_residual[r * stride + d];
  }
}
