// The encoder's passes over chunks: which block goes through which layer, and what the threads do.
// No #include and no namespace here: see encode_cpu.cpp.

template <class T>
void forward_chunk(const EncodeCall<T>& call, int64_t c, const Store<T>& arrays,
                   ForwardScratch<T>& scratch, T* h) {
  [[maybe_unused]] const typename Products<T>::Use use;
  const EncodeBlock chunk = call.plan.chunk(c);
  const int64_t last = call.layout.layers - 1;
  for (int64_t row = chunk.begin; row < chunk.end;) {
    const EncodeBlock block = call.plan.block(row, chunk.end);
    T* x = scratch.x + (block.first_token - chunk.first_token) * call.layout.hidden_row;
    embedding_forward(call, block, arrays.embedding(block), scratch.block, x);
    for (int64_t layer = 0; layer < last; ++layer) {
      full_layer_forward(call, block, layer, arrays.layer(layer, block), scratch, x);
    }
    row = block.end;
  }
  for (int64_t row = chunk.begin; row < chunk.end; row += kBlockTokens) {
    const EncodeBlock rows = call.plan.span(row, std::min(row + kBlockTokens, chunk.end));
    const T* x = scratch.x + (rows.first_token - chunk.first_token) * call.layout.hidden_row;
    last_layer_forward(call, rows, arrays.last(rows), arrays.probabilities(rows), scratch, x, h);
  }
}

// Zero in the parts of `saved` that nothing else writes (rows of spare capacity, padding of rows
// where the register tile is narrower than the padding, masks without dropout), so that the same
// call always keeps the same bits.
template <class T>
void clear_unused(const EncodeSizes& sizes, const EncodeLayout& layout, const SavedLayout& kept,
                  bool masked, T* saved) {
  for (const SavedLayout::Array& array : kept.arrays()) {
    const bool of_layer = array.offset >= kept.first_layer();
    for (int64_t layer = 0; layer < (of_layer ? layout.layers - 1 : 1); ++layer) {
      T* place = saved + array.offset + layer * kept.layer_size();
      const int64_t used = array.of_tokens ? sizes.tokens : sizes.sequences;
      const int64_t first = array.is_mask && !masked ? 0 : used;
      std::fill_n(place + first * array.columns,
                  (kept.rows(array.of_tokens) - first) * array.columns, T(0));
    }
  }
  // Columns [from, to) of `rows` rows.
  const auto clear_columns = [](T* place, int64_t rows, int64_t stride, int64_t from, int64_t to) {
    for (int64_t row = 0; from < to && row < rows; ++row) {
      std::fill_n(place + row * stride + from, to - from, T(0));
    }
  };
  std::fill_n(saved + kept.end(), kept.size() - kept.end(), T(0));
  const SavedLast last = kept.last();
  const int64_t last_panel = layout.inner_row - kPadding;
  const auto clear_inner = [&](const SavedLayer& layer, bool of_tokens) {
    for (const int64_t array : {layer.activated, layer.slope}) {
      clear_columns(saved + array + last_panel * kept.rows(of_tokens),
                    of_tokens ? sizes.tokens : sizes.sequences, kPadding,
                    padded(layout.inner, kTileCols<T>) - last_panel, kPadding);
    }
  };
  clear_inner(last.rows, false);
  for (int64_t layer = 0; layer + 1 < layout.layers; ++layer) {
    clear_inner(kept.layer(layer), true);
  }
  clear_columns(saved + last.absorbed, sizes.sequences * layout.heads, layout.hidden_row,
                padded(layout.hidden, kTileCols<T>), layout.hidden_row);
}

template <class T>
void forward(const EncodeParams<T>& params, const EncodePlan& plan, T* h, T* saved) {
  const EncodeSizes& sizes = params.sizes;
  Scratch memory;
  const EncodeLayout layout(sizes, kPadding);
  const PackedWeights<T> packed(layout, false, memory);
  pack_weights(layout, params.weights, false, packed);
  const EncodeCall<T> call(params, layout, plan, packed);

  const int workers = worker_count();
  EncodeLayout one = layout;
  one.layers = std::min<int64_t>(layout.layers, 2);
  const SavedLayout kept = saved != nullptr
                               ? SavedLayout(layout, sizes.capacity, sizes.sequences)
                               : SavedLayout(one, plan.most_chunk_tokens(), kBlockTokens);
  if (saved != nullptr) clear_unused(sizes, layout, kept, call.dropout.hidden.active(), saved);
  std::vector<ForwardScratch<T>> scratch;
  std::vector<Store<T>> stores;
  for (int w = 0; w < workers; ++w) {
    scratch.emplace_back(layout, plan, memory);
    T* place = saved != nullptr ? saved : memory.take<T>(kept.size());
    stores.emplace_back(layout, kept, place, saved == nullptr);
  }
  parallel_tasks(plan.chunks(), [&](int64_t c, int worker) {
    forward_chunk(call, c, stores[worker], scratch[worker], h);
  });
}

// grad [T][hidden_row] in plan order: gets the gradient of each token's embedding sum.
// `sums` is the chunk's array of weight gradients.
template <class T>
void backward_chunk(const EncodeCall<T>& call, int64_t c, const Store<T>& saved,
                    const GradientLayout<T>& gradients, T* sums, BackwardScratch<T>& scratch,
                    const T* grad_h, T* grad) {
  [[maybe_unused]] const typename Products<T>::Use use;
  const EncodeBlock chunk = call.plan.chunk(c);
  const int64_t last = call.layout.layers - 1, stride = call.layout.hidden_row;
  std::fill_n(sums, gradients.vectors(), T(0));
  for (int64_t row = chunk.begin; row < chunk.end; row += kBlockTokens) {
    const EncodeBlock rows = call.plan.span(row, std::min(row + kBlockTokens, chunk.end));
    last_layer_backward(call, rows, row == chunk.begin, saved, gradients.layer(sums, last), scratch,
                        grad_h, grad + rows.first_token * stride);
  }
  for (int64_t row = chunk.begin; row < chunk.end;) {
    const EncodeBlock block = call.plan.block(row, chunk.end);
    T* block_grad = grad + block.first_token * stride;
    if (last > 0) find_tokens(call, block, scratch.block);
    for (int64_t layer = last - 1; layer >= 0; --layer) {
      full_layer_backward(call, block, layer, row == chunk.begin, saved,
                          gradients.layer(sums, layer), scratch, block_grad);
    }
    embedding_backward(call, block, saved, gradients.embedding_norm(sums),
                       gradients.embedding_norm_bias(sums), block_grad);
    row = block.end;
  }
}

// to [rows][cols] = the chunks' arrays added up in order; row r of it is row place(r) of `from`,
// `stride` apart. The chunks' arrays are `step` apart.
template <class T, class Place>
void add_chunks(int64_t chunks, const T* from, int64_t step, int64_t stride, int64_t rows,
                int64_t cols, T* to, const Place& place) {
  for (int64_t r = 0; r < rows; ++r, to += cols) {
    const T* row = from + place(r) * stride;
    for (int64_t col = 0; col < cols; ++col) to[col] = row[col];
    for (int64_t c = 1; c < chunks; ++c) {
      for (int64_t col = 0; col < cols; ++col) to[col] += row[c * step + col];
    }
  }
}

// The gradient of weight `kind` of layer `l`, from the chunks' sums.
template <class T>
void reduce_layer_gradient(const EncodeLayout& layout, const GradientLayout<T>& gradients,
                           int64_t chunks, T* sums, int64_t l, int64_t kind, T* to) {
  const LayerGradients<T> g = gradients.layer(sums, l);
  const int64_t step = gradients.size(), hidden = layout.hidden, stride = layout.hidden_row;
  const auto same = [](int64_t r) { return r; };
  // Row of a padded attention dimension behind row r of the weight.
  const auto headed = [&](int64_t r) {
    return r / layout.head * layout.head_row + r % layout.head;
  };
  const auto vector = [&](const T* from, int64_t size) {
    add_chunks(chunks, from, step, size, 1, size, to, same);
  };
  switch (kind) {
    case kQuery:
    case kKey:
    case kValue:
      return add_chunks(chunks, g.qkv + kind / 2 * layout.attention_row * stride, step, stride,
                        hidden, hidden, to, headed);
    case kQueryBias:
    case kKeyBias:
    case kValueBias:
      return add_chunks(chunks, g.qkv_bias + kind / 2 * layout.attention_row, step, 1, hidden, 1,
                        to, headed);
    case kOutput:
      // Its columns are padded attention columns: one head at a time.
      for (int64_t r = 0; r < hidden; ++r) {
        for (int64_t h = 0; h < layout.heads; ++h) {
          add_chunks(chunks, g.output + r * layout.attention_row + h * layout.head_row, step, 0, 1,
                     layout.head, to + r * hidden + h * layout.head, same);
        }
      }
      return;
    case kOutputBias:
      return vector(g.output_bias, hidden);
    case kAttentionNorm:
      return vector(g.attention_norm, hidden);
    case kAttentionNormBias:
      return vector(g.attention_norm_bias, hidden);
    case kInner:
      return add_chunks(chunks, g.inner, step, stride, layout.inner, hidden, to, same);
    case kInnerBias:
      return vector(g.inner_bias, layout.inner);
    case kOuter:
      return add_chunks(chunks, g.outer, step, layout.inner_row, hidden, layout.inner, to, same);
    case kOuterBias:
      return vector(g.outer_bias, hidden);
    case kFeedForwardNorm:
      return vector(g.feed_forward_norm, hidden);
    default:
      return vector(g.feed_forward_norm_bias, hidden);
  }
}

// Tokens in plan order, bucketed by ranges of the rows of a table they add to.
struct ScatterPlan {
  int64_t rows;    // of the table
  int64_t parts;   // ranges
  int64_t* start;  // [parts + 1] into token and row
  int32_t* token;  // [T] tokens, plan order within a range
  int32_t* row;    // [T] the table's row of each
};

constexpr int64_t kScatterParts = 32;

inline ScatterPlan make_scatter_plan(const EncodePlan& plan, const EncodeBatch& batch,
                                     const int32_t* index, int64_t sequences, int64_t tokens,
                                     int64_t rows, Scratch& scratch) {
  ScatterPlan scatter;
  scatter.rows = rows;
  scatter.parts = std::min(kScatterParts, rows);
  scatter.start = scratch.take<int64_t>(scatter.parts + 1);
  scatter.token = scratch.take<int32_t>(tokens);
  scatter.row = scratch.take<int32_t>(tokens);
  const int64_t parts = scatter.parts;
  const auto part = [=](int32_t id) { return id * parts / rows; };
  std::fill_n(scatter.start, parts + 1, 0);
  for (int64_t t = 0; t < tokens; ++t) ++scatter.start[part(index[t])];
  int64_t sum = 0;
  for (int64_t p = 0; p <= parts; ++p) {
    const int64_t count = scatter.start[p];
    scatter.start[p] = sum;
    sum += count;
  }
  int32_t token = 0;
  for (int64_t row = 0; row < sequences; ++row) {
    const int64_t first = batch.offsets[plan.sequence(row)];
    for (int64_t t = 0; t < plan.length(row); ++t, ++token) {
      const int64_t place = scatter.start[part(index[first + t])]++;
      scatter.token[place] = token;
      scatter.row[place] = index[first + t];
    }
  }
  for (int64_t p = parts; p > 0; --p) scatter.start[p] = scatter.start[p - 1];
  scatter.start[0] = 0;
  return scatter;
}

// Writes the rows of one range of the table's gradient [rows][D], or adds to them; `skipped` is a
// row that gets none.
template <class T>
void scatter_part(const ScatterPlan& scatter, int64_t part, int64_t skipped, bool add,
                  const T* grad, int64_t stride, int64_t hidden, T* to) {
  // The rows r with r * parts / rows == part.
  const int64_t begin = ceil_div(part * scatter.rows, scatter.parts);
  const int64_t end = ceil_div((part + 1) * scatter.rows, scatter.parts);
  if (!add) std::fill_n(to + begin * hidden, (end - begin) * hidden, T(0));
  constexpr int64_t kAhead = 8, kLine = kCacheLine / static_cast<int64_t>(sizeof(T));
  const int64_t last = scatter.start[part + 1] - 1;
  for (int64_t i = scatter.start[part]; i <= last; ++i) {
    const int64_t next = std::min(i + kAhead, last);
    for (int64_t d = 0; d < hidden; d += kLine) {
      prefetch(grad + scatter.token[next] * stride + d);
      prefetch(to + scatter.row[next] * hidden + d);
    }
    if (scatter.row[i] == skipped) continue;
    T* row = to + scatter.row[i] * hidden;
    const T* from = grad + scatter.token[i] * stride;
    for (int64_t d = 0; d < hidden; ++d) row[d] += from[d];
  }
}

template <class T>
void backward(const EncodeParams<T>& params, const EncodePlan& plan, const T* grad_h,
              const T* saved, T* const* to, bool add_items) {
  const EncodeSizes& sizes = params.sizes;
  const EncodeBatch& batch = params.batch;
  Scratch memory;
  const EncodeLayout layout(sizes, kPadding);
  const PackedWeights<T> packed(layout, true, memory);
  pack_weights(layout, params.weights, true, packed);
  const EncodeCall<T> call(params, layout, plan, packed);
  const SavedLayout kept(layout, sizes.capacity, sizes.sequences);
  const Store<T> store_of(layout, kept, const_cast<T*>(saved), false);  // only read

  const GradientLayout<T> gradients(layout);
  T* sums = memory.take<T>(plan.chunks() * gradients.size());
  T* grad = memory.take<T>(sizes.tokens * layout.hidden_row);
  if (sizes.sequences == 0) std::fill_n(sums, gradients.size(), T(0));  // the one chunk is empty
  std::vector<BackwardScratch<T>> scratch;
  for (int w = 0; w < worker_count(); ++w) scratch.emplace_back(layout, plan, memory);
  parallel_tasks(plan.chunks(), [&](int64_t c, int worker) {
    backward_chunk(call, c, store_of, gradients, sums + c * gradients.size(), scratch[worker],
                   grad_h, grad);
  });

  const ScatterPlan items = make_scatter_plan(plan, batch, batch.items, sizes.sequences,
                                              sizes.tokens, sizes.items, memory);
  const ScatterPlan positions = make_scatter_plan(plan, batch, batch.positions, sizes.sequences,
                                                  sizes.tokens, sizes.positions, memory);
  const int64_t reductions = layout.layers * kLayerWeights;
  const int64_t tasks = 1 + reductions + items.parts + positions.parts;
  parallel_tasks(tasks, [&](int64_t task, int) {
    if (task < items.parts) {
      return scatter_part(items, task, 0, add_items, grad, layout.hidden_row, layout.hidden,
                          to[kItemEmbedding]);
    }
    task -= items.parts;
    if (task < positions.parts) {
      return scatter_part(positions, task, -1, false, grad, layout.hidden_row, layout.hidden,
                          to[kPositionEmbedding]);
    }
    task -= positions.parts;
    if (task < reductions) {
      return reduce_layer_gradient(layout, gradients, plan.chunks(), sums, task / kLayerWeights,
                                   task % kLayerWeights, to[kFirstLayerWeight + task]);
    }
    const auto same = [](int64_t r) { return r; };
    add_chunks(plan.chunks(), gradients.embedding_norm(sums), gradients.size(), layout.hidden_row,
               1, layout.hidden, to[kEmbeddingNorm], same);
    add_chunks(plan.chunks(), gradients.embedding_norm_bias(sums), gradients.size(),
               layout.hidden_row, 1, layout.hidden, to[kEmbeddingNormBias], same);
  });
}
