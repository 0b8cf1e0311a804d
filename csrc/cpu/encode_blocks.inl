// What the encoder's forward and backward passes share: where a block's kept arrays lie, its
// tokens, its dropout bits.
// No #include and no namespace here: see encode_cpu.cpp.

// One norm's arrays from the block's first row on.
template <class T>
struct NormStore {
  T* xhat;     // [rows][hidden_row]
  T* inverse;  // [rows]
  uint8_t*
      mask;  // dropout bits of the branch that was added (or of the embedding), mask_bytes a row
};

template <class T>
struct LayerStore {
  T* qkv;  // [rows][3 attention_row]; null in the last layer
  NormStore<T> attention;
  T* activated;   // [inner_row / kPadding][rows][kPadding]; null, like `slope`, when no backward
                  // pass follows
  T* slope;       // the same
  int64_t panel;  // elements from one panel of kPadding columns to the next
  NormStore<T> feed_forward;

  // Where element (row, col) of `activated` and `slope` lies.
  int64_t inner(int64_t row, int64_t col) const {
    return col / kPadding * panel + row * kPadding + col % kPadding;
  }
};

template <class T>
struct LastStore {
  T* query;     // [rows][attention_row]
  T* absorbed;  // [rows][absorbed_row]
  T* mixed;     // [rows][absorbed_row]
  T* kept;      // [rows][H]
  T* context;   // [rows][attention_row]
  LayerStore<T> rows;
};

struct EncodeDropout {
  Dropout hidden;
  Dropout attention;

  explicit EncodeDropout(const EncodeOptions& options)
      : hidden{options.hidden_dropout, options.seed, static_cast<uint32_t>(*options.update)},
        attention{options.attention_dropout, hidden.seed, hidden.update} {}
};

// What a call is about.
template <class T>
struct EncodeCall {
  EncodeCall(const EncodeParams<T>& params, const EncodeLayout& layout, const EncodePlan& plan,
             const PackedWeights<T>& packed)
      : sizes(params.sizes),
        batch(params.batch),
        weights(params.weights),
        dropout(params.options),
        rows(params.options.rows),
        eps(static_cast<T>(params.options.eps)),
        layout(layout),
        plan(plan),
        packed(packed) {}

  const EncodeSizes& sizes;
  const EncodeBatch& batch;
  const T* const* weights;
  EncodeDropout dropout;
  const int32_t* rows;  // see EncodeOptions
  T eps;
  EncodeLayout layout;
  const EncodePlan& plan;
  const PackedWeights<T>& packed;

  NormShape norm() const { return {layout.hidden, layout.hidden_row}; }
  // What the draws of a row of the plan are addressed by.
  uint32_t address(int64_t row) const {
    const int64_t sequence = plan.sequence(row);
    return static_cast<uint32_t>(rows == nullptr ? sequence : rows[sequence]);
  }
  int64_t mask_bytes() const { return layout.mask_row * static_cast<int64_t>(sizeof(T)); }
};

// Arrays kept for the backward pass; or, when there will be none, memory that every block (and
// every layer) uses again.
template <class T>
class Store {
 public:
  // Room for the whole batch: `memory` holds SavedLayout::size() elements.
  Store(const EncodeLayout& layout, const SavedLayout& saved, T* memory, bool reused)
      : layout_(layout), saved_(saved), memory_(memory), reused_(reused) {}

  NormStore<T> embedding(const EncodeBlock& block) const {
    return norm(saved_.embedding(), reused_ ? 0 : block.first_token);
  }
  LayerStore<T> layer(int64_t number, const EncodeBlock& block) const {
    return layer(saved_.layer(reused_ ? 0 : number), reused_ ? 0 : block.first_token, true);
  }
  LastStore<T> last(const EncodeBlock& rows) const {
    const int64_t first = reused_ ? 0 : rows.begin;
    const SavedLast at = saved_.last();
    return {memory_ + at.query + first * layout_.attention_row,
            memory_ + at.absorbed + first * layout_.absorbed_row,
            memory_ + at.mixed + first * layout_.absorbed_row,
            memory_ + at.kept + first * layout_.heads,
            memory_ + at.context + first * layout_.attention_row,
            layer(at.rows, first, false)};
  }
  // [tokens of the rows][H]
  T* probabilities(const EncodeBlock& rows) const {
    return memory_ + saved_.last().probabilities + (reused_ ? 0 : rows.first_token * layout_.heads);
  }

 private:
  NormStore<T> norm(const SavedNorm& at, int64_t first) const {
    return {memory_ + at.xhat + first * layout_.hidden_row, memory_ + at.inverse + first,
            reinterpret_cast<uint8_t*>(memory_ + at.mask + first * layout_.mask_row)};
  }
  LayerStore<T> layer(const SavedLayer& at, int64_t first, bool of_tokens) const {
    const int64_t inner = first * kPadding;
    return {of_tokens ? memory_ + at.qkv + first * 3 * layout_.attention_row : nullptr,
            norm(at.attention, first),
            reused_ ? nullptr : memory_ + at.activated + inner,
            reused_ ? nullptr : memory_ + at.slope + inner,
            saved_.rows(of_tokens) * kPadding,
            norm(at.feed_forward, first)};
  }

  const EncodeLayout& layout_;
  const SavedLayout& saved_;
  T* memory_;
  bool reused_;
};

// Dropout bits of the attention: per row of the plan, words [H][n][padded(n, 32) / 32], or, for the
// last layer, those of the last query only, [H][padded(n, 32) / 32].
struct AttentionBits {
  uint32_t* memory;
  int64_t* start;  // [rows of the block], in words; the last layer: [rows][H]
};

// Words that one block can need.
inline int64_t attention_bits_size(const EncodeLayout& layout, const EncodePlan& plan) {
  const int64_t words = padded(plan.longest(), 32) / 32;
  const int64_t block = plan.most_block_tokens() * layout.heads * words + 4 * kBlockTokens;
  const int64_t last = kBlockTokens * layout.heads * (words + 8);
  return block > last ? block : last;
}

// A block's tokens and scratch that both passes need.
template <class T>
struct BlockScratch {
  int64_t* item;       // [tokens], element offset of the token's row in the item embedding
  int64_t* position;   // [tokens], the same for the position embedding
  uint8_t* visible;    // [tokens]
  uint8_t* runs;       // dropout bits of hidden sites, before they are split into rows
  AttentionBits bits;  // of the attention
  T* attention;        // attention_scratch_size, also scores of the last layer
  Products<T> products;

  BlockScratch(const EncodeLayout& layout, const EncodePlan& plan, Scratch& scratch)
      : products(scratch.take<T>(Products<T>::room_for(
            plan.most_block_tokens(),
            3 * layout.hidden_row + 4 * std::max(layout.attention_row, kInnerColumns)))) {
    const int64_t tokens = plan.most_block_tokens();
    item = scratch.take<int64_t>(tokens);
    position = scratch.take<int64_t>(tokens);
    visible = scratch.take<uint8_t>(tokens);
    // A row of n tokens takes n D / 8 bytes and at most two draws more.
    runs = scratch.take<uint8_t>(tokens * (layout.hidden / 8 + 1) + 48 * kBlockTokens + 64);
    bits.memory = scratch.take<uint32_t>(attention_bits_size(layout, plan));
    bits.start = scratch.take<int64_t>(kBlockTokens * layout.heads);
    const int64_t head = attention_scratch_size<T>(plan.longest(), layout.head_row);
    const int64_t last = 2 * layout.heads * padded(plan.longest());
    attention = scratch.take<T>(head > last ? head : last);
  }
};

template <class T>
void find_tokens(const EncodeCall<T>& call, const EncodeBlock& block, BlockScratch<T>& scratch) {
  int64_t token = 0;
  for (int64_t row = block.begin; row < block.end; ++row) {
    const int64_t first = call.batch.offsets[call.plan.sequence(row)];
    for (int64_t t = 0; t < call.plan.length(row); ++t, ++token) {
      const int32_t item = call.batch.items[first + t];
      scratch.item[token] = item * call.layout.hidden;
      scratch.position[token] = call.batch.positions[first + t] * call.layout.hidden;
      scratch.visible[token] = item != 0;
      const T* place = call.weights[kItemEmbedding] + scratch.item[token];
      for (int64_t d = 0; d < call.layout.hidden; d += 64 / static_cast<int64_t>(sizeof(T))) {
        __builtin_prefetch(place + d);
      }
    }
  }
}

// The bits of a hidden site for every token of the block, or only for each row's last token: one
// row of mask_bytes each.
template <class T>
void hidden_bits(const EncodeCall<T>& call, const EncodeBlock& block, int64_t layer, int site,
                 bool last_token, uint8_t* runs, uint8_t* mask) {
  const Dropout& dropout = call.dropout.hidden;
  if (!dropout.active()) return;
  KeepBits bits(dropout, philox_stream(kStreamDropout, static_cast<uint32_t>(layer),
                                       static_cast<uint32_t>(site)));
  const int64_t hidden = call.layout.hidden;
  const int64_t per_draw = dropout.elements_per_draw(), bytes = dropout.bytes_per_draw();
  const auto each_run = [&](const auto& visit) {
    uint8_t* to = runs;
    for (int64_t row = block.begin; row < block.end; ++row) {
      const int64_t n = call.plan.length(row);
      const int64_t first = last_token ? (n - 1) * hidden : 0, end = n * hidden;
      to = visit(row, first, end, last_token ? 1 : n, to);
    }
  };
  each_run([&](int64_t row, int64_t first, int64_t end, int64_t, uint8_t* to) {
    for (int64_t draw = first / per_draw; draw * per_draw < end; ++draw, to += bytes) {
      bits.push(static_cast<uint32_t>(draw), call.address(row), to);
    }
    return to;
  });
  bits.flush();
  each_run([&](int64_t, int64_t first, int64_t end, int64_t tokens, uint8_t* from) {
    for (int64_t t = 0; t < tokens; ++t, mask += call.mask_bytes()) {
      copy_bits(from, first % per_draw + t * hidden, hidden, mask, call.mask_bytes());
    }
    return from + ((end - 1) / per_draw - first / per_draw + 1) * bytes;
  });
}

// The bits of the attention probabilities of every token of the block.
template <class T>
void attention_bits(const EncodeCall<T>& call, const EncodeBlock& block, int64_t layer,
                    const AttentionBits& to) {
  const Dropout& dropout = call.dropout.attention;
  if (!dropout.active()) return;
  KeepBits bits(dropout,
                philox_stream(kStreamDropout, static_cast<uint32_t>(layer), kSiteAttention));
  int64_t start = 0;
  for (int64_t row = block.begin; row < block.end; ++row) {
    to.start[row - block.begin] = start;
    const int64_t n = call.plan.length(row), heads = call.layout.heads;
    attention_head_bits(dropout, bits, call.address(row), n, 0, heads, to.memory + start);
    start += padded(heads * n * (padded(n, 32) / 32), 4);  // whole draws
  }
  bits.flush();
}

// The same for each row's last token: words of (row, head) from start[(row - begin) H + head] on.
template <class T>
void last_attention_bits(const EncodeCall<T>& call, const EncodeBlock& rows, int64_t layer,
                         const AttentionBits& to) {
  const Dropout& dropout = call.dropout.attention;
  if (!dropout.active()) return;
  KeepBits bits(dropout,
                philox_stream(kStreamDropout, static_cast<uint32_t>(layer), kSiteAttention));
  const int64_t heads = call.layout.heads;
  const int64_t per_draw = dropout.elements_per_draw(), bytes = dropout.bytes_per_draw();
  uint8_t* memory = reinterpret_cast<uint8_t*>(to.memory);
  int64_t place = 0;  // in bytes
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const int64_t n = call.plan.length(row);
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t first = (h * n + n - 1) * padded(n, 32);
      to.start[(row - rows.begin) * heads + h] = (place + first % per_draw / 8) / 4;
      for (int64_t draw = first / per_draw; draw * per_draw < first + n; ++draw) {
        bits.push(static_cast<uint32_t>(draw), call.address(row), memory + place);
        place += bytes;
      }
      place = padded(place, 16);
    }
  }
  bits.flush();
}
