// Causal attention of one head of one sequence, forward and backward; shared by packed_attention
// and the encoder. Queries go kLanes at a time, one per vector lane: scores are then vectors over
// queries, so maximum and sum over the keys need no operation across lanes, whatever the length.
// For n tokens of size d: 2 n^2 d FLOP forward, 6 n^2 d backward, half of them behind the causal
// mask (skipped in steps of kLanes); scratch stays in L1 up to some 200 tokens.
// No #include and no namespace here: simd.h comes first, outside the namespace; then inside it
// simd.inl, vector_math.inl, dropout_bits.inl and transpose.inl.

// One head of one sequence. Rows of query, key, value: [tokens][size], `stride` apart, `size` a
// multiple of kLanes (padded with zeros).
template <class T>
struct AttentionHead {
  const T* query;
  const T* key;
  const T* value;
  int64_t stride;
  int64_t tokens;
  int64_t size;
  T scale;                 // of the scores: 1 / sqrt(head size)
  const uint8_t* visible;  // [tokens], 0 = never a key; null = all are keys
  const uint32_t* keep;    // dropout bits [tokens][keep_words], bit j of row i; null = no dropout
  int64_t keep_words;
  T keep_scale;
};

// Elements of scratch for one head.
template <class T>
MCLREC_INLINE int64_t attention_scratch_size(int64_t tokens, int64_t size) {
  return (2 * size + 3 * tokens) * kLanes<T>;
}

// out[r][lane] = sum over e < size of rows[r][e] * lanes[e][lane], R rows.
template <int R, class T>
MCLREC_INLINE void lane_products(const T* rows, int64_t stride, const T* lanes, int64_t size,
                                 T* out) {
  Vec<T> sum[R] = {};
  for (int64_t e = 0; e < size; ++e) {
    const Vec<T> lane = load(lanes + e * kLanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r] = fma(broadcast(rows[r * stride + e]), lane, sum[r]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) store(out + r * kLanes<T>, sum[r]);
}

// The same for any number of rows.
template <class T>
__attribute__((noinline)) void lane_products(int64_t count, const T* rows, int64_t stride,
                                             const T* lanes, int64_t size, T* out) {
  for (; count >= 8; count -= 8, rows += 8 * stride, out += 8 * kLanes<T>) {
    lane_products<8>(rows, stride, lanes, size, out);
  }
  if (count & 4) {
    lane_products<4>(rows, stride, lanes, size, out);
    rows += 4 * stride, out += 4 * kLanes<T>;
  }
  if (count & 2) {
    lane_products<2>(rows, stride, lanes, size, out);
    rows += 2 * stride, out += 2 * kLanes<T>;
  }
  if (count & 1) lane_products<1>(rows, stride, lanes, size, out);
}

// Where the weights of a mix lie: weight (r, k) at r * row + k * term.
struct MixSteps {
  int64_t row, term;
};

// out[r][.] (+)= sum over k < count of weight (r, k) * b[k][.], R rows of C vectors.
template <bool kAdd, int R, int C, class T>
MCLREC_INLINE void mix_tile(const T* weight, MixSteps step, int64_t count, Rows<const T> b,
                            Rows<T> out) {
  Vec<T> sum[R][C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      sum[r][c] = kAdd ? load(out.row(r) + c * kLanes<T>) : Vec<T>{};
    }
  }
  for (int64_t k = 0; k < count; ++k) {
    Vec<T> row[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) row[c] = load(b.row(k) + c * kLanes<T>);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Vec<T> w = broadcast(weight[r * step.row + k * step.term]);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) sum[r][c] = fma(w, row[c], sum[r][c]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) store(out.row(r) + c * kLanes<T>, sum[r][c]);
  }
}

// The same for R rows of `size` elements, a multiple of kLanes.
template <bool kAdd, int R, class T>
__attribute__((noinline)) void mix_rows(const T* weight, MixSteps step, int64_t count,
                                        Rows<const T> b, int64_t size, Rows<T> out) {
  int64_t vectors = size / kLanes<T>;
  for (; vectors >= 4; vectors -= 4, b.at += 4 * kLanes<T>, out.at += 4 * kLanes<T>) {
    mix_tile<kAdd, R, 4, T>(weight, step, count, b, out);
  }
  if (vectors & 2) {
    mix_tile<kAdd, R, 2, T>(weight, step, count, b, out);
    b.at += 2 * kLanes<T>, out.at += 2 * kLanes<T>;
  }
  if (vectors & 1) mix_tile<kAdd, R, 1, T>(weight, step, count, b, out);
}

// Scores [keys][kLanes] of the queries first, first + 1, ... to exponentials in place, and what
// makes them probabilities: 1 / their sum. 0 where the key is later than the query or not visible,
// and everywhere for a query without a visible key. NaN reaches a query's probabilities at all
// keys.
template <class T>
MCLREC_INLINE Vec<T> softmax_lanes(const AttentionHead<T>& head, int64_t first, int64_t keys,
                                   T* p) {
  constexpr int kL = kLanes<T>;
  const T scale = head.scale * T(1.44269504088896340736);  // the exponentials are those of base 2
  using Integer = decltype(IntVec<T>{}[0] + 0);
  const Vec<T> lowest = broadcast<T>(std::numeric_limits<T>::lowest());
  IntVec<T> query = {};
  for (int i = 0; i < kL; ++i) query[i] = static_cast<Integer>(first + i);
  Vec<T> largest = lowest;
  for (int64_t j = 0; j < keys; ++j) {
    const bool visible = head.visible == nullptr || head.visible[j] != 0;
    const IntVec<T> allowed = query >= static_cast<Integer>(visible ? j : first + kL);
    const Vec<T> score = allowed ? load(p + j * kL) * scale : lowest;
    store(p + j * kL, score);
    largest = max(largest, score);
  }
  Vec<T> sum = {};
  for (int64_t j = 0; j < keys; j += 2) {
    const int64_t other = j + 1 < keys ? j + 1 : j;
    const Vec<T> score[2] = {load(p + j * kL), load(p + other * kL)};
    Vec<T> e[2] = {score[0] - largest, score[1] - largest};
    exp2_nonpositive(e);
    e[0] = keep_where<T>(score[0] != lowest, e[0]);
    store(p + j * kL, e[0]);
    sum += e[0];
    if (other == j) break;
    e[1] = keep_where<T>(score[1] != lowest, e[1]);
    store(p + other * kL, e[1]);
    sum += e[1];
  }
  IntVec<T> counts = sum != Vec<T>{};
  if (lane_bits<T>(counts) == lane_bits<T>(first_lanes<T>(kL))) return T(1) / sum;
  for (int64_t j = 0; j < keys; ++j) {
    if (head.visible == nullptr || head.visible[j] != 0) {
      counts |= query >= static_cast<Integer>(j);  // all its scores are -infinity: 0 / 0
    }
  }
  return keep_where<T>(counts, T(1) / sum);
}

// visit(j, kept) for each key; `kept` has all ones in the lanes whose query keeps it.
template <class T, class Visit>
MCLREC_INLINE void each_kept(const AttentionHead<T>& head, int64_t first, int64_t keys,
                             const Visit& visit) {
  using Integer = decltype(IntVec<T>{}[0] + 0);
  for (int64_t word = 0; word * 32 < keys; ++word) {
    IntVec<T> bits = {};
    for (int i = 0; i < kLanes<T>; ++i) {
      const int64_t query = first + i < head.tokens ? first + i : head.tokens - 1;
      bits[i] = static_cast<Integer>(head.keep[query * head.keep_words + word]);
    }
    const int64_t end = keys < word * 32 + 32 ? keys : word * 32 + 32;
    for (int64_t j = word * 32; j < end; ++j) {
      visit(j, -((bits >> static_cast<Integer>(j % 32)) & 1));
    }
  }
}

// context [tokens][size], rows `context_stride` apart.
template <class T>
void attention_head_forward(const AttentionHead<T>& head, T* context, int64_t context_stride,
                            T* scratch) {
  constexpr int kL = kLanes<T>;
  T* lanes = scratch;                   // [size][kLanes] queries
  T* p = scratch + 2 * head.size * kL;  // [keys][kLanes]
  for (int64_t first = 0; first < head.tokens; first += kL) {
    const int64_t left = head.tokens - first, count = left < kL ? left : kL;
    const int64_t keys = first + count;
    rows_to_lanes(head.query + first * head.stride, head.stride, count, head.size, lanes);
    lane_products(keys, head.key, head.stride, lanes, head.size, p);
    const Vec<T> inverse = softmax_lanes(head, first, keys, p);
    if (head.keep != nullptr) {
      const Vec<T> factor = inverse * head.keep_scale;
      each_kept(head, first, keys, [&](int64_t j, IntVec<T> kept) __attribute__((always_inline)) {
        store(p + j * kL, keep_where<T>(kept, load(p + j * kL) * factor));
      });
    } else {
      for (int64_t j = 0; j < keys; ++j) store(p + j * kL, load(p + j * kL) * inverse);
    }
    // Two queries at a time see the keys up to the later one; the earlier one has p = 0 there.
    int64_t i = 0;
    T* out = context + first * context_stride;
    for (; i + 2 <= count; i += 2, out += 2 * context_stride) {
      mix_rows<false, 2, T>(p + i, {.row = 1, .term = kL}, first + i + 2, {head.value, head.stride},
                            head.size, {out, context_stride});
    }
    if (i < count) {
      mix_rows<false, 1, T>(p + i, {.row = 1, .term = kL}, keys, {head.value, head.stride},
                            head.size, {out, context_stride});
    }
  }
}

// Gradients of one head, rows `stride` apart like the head's; context is computed again.
template <class T>
struct AttentionHeadGradients {
  const T* grad_context;  // [tokens][size], rows context_stride apart
  T* context;             // the same shape; null = not wanted
  int64_t context_stride;
  T* grad_query;
  T* grad_key;
  T* grad_value;
  int64_t stride;
};

// p [keys][kLanes], which times `inverse` are the probabilities, and dp = d loss / d (dropped p) in
// place of ds: leaves the probabilities in `p`, the dropped ones in `dropped` and the gradient of
// the unscaled scores in `ds`.
template <class T>
MCLREC_INLINE void softmax_lanes_backward(const AttentionHead<T>& head, int64_t first, int64_t keys,
                                          Vec<T> inverse, T* p, T* dropped, T* ds) {
  constexpr int kL = kLanes<T>;
  Vec<T> sum = {};
  const auto one = [&](int64_t j, Vec<T> one_p, Vec<T> kept_p, Vec<T> dp)
                       __attribute__((always_inline)) {
                         store(p + j * kL, one_p);
                         store(dropped + j * kL, kept_p);
                         store(ds + j * kL, dp);
                         sum = fma(one_p, dp, sum);
                       };
  if (head.keep != nullptr) {
    each_kept(head, first, keys, [&](int64_t j, IntVec<T> kept) __attribute__((always_inline)) {
      const Vec<T> one_p = load(p + j * kL) * inverse;
      one(j, one_p, keep_where<T>(kept, one_p * head.keep_scale),
          keep_where<T>(kept, load(ds + j * kL) * head.keep_scale));
    });
  } else {
    for (int64_t j = 0; j < keys; ++j) {
      const Vec<T> one_p = load(p + j * kL) * inverse;
      one(j, one_p, one_p, load(ds + j * kL));
    }
  }
  // d s_j = p_j (dp_j - sum_k p_k dp_k), the derivative of softmax.
  for (int64_t j = 0; j < keys; ++j) {
    store(ds + j * kL, load(p + j * kL) * (load(ds + j * kL) - sum) * head.scale);
  }
}

// Adds the block's queries to the gradients of keys [from, to), or starts them.
template <bool kAdd, class T>
MCLREC_INLINE void key_gradients(const AttentionHead<T>& head, const AttentionHeadGradients<T>& g,
                                 int64_t first, int64_t count, int64_t from, int64_t to,
                                 const T* dropped, const T* ds) {
  constexpr int kL = kLanes<T>;
  constexpr MixSteps kStep{.row = kL, .term = 1};
  const Rows<const T> query{head.query + first * head.stride, head.stride};
  const Rows<const T> grad{g.grad_context + first * g.context_stride, g.context_stride};
  int64_t j = from;
  for (; j + 2 <= to; j += 2) {
    mix_rows<kAdd, 2, T>(ds + j * kL, kStep, count, query, head.size,
                         {g.grad_key + j * g.stride, g.stride});
    mix_rows<kAdd, 2, T>(dropped + j * kL, kStep, count, grad, head.size,
                         {g.grad_value + j * g.stride, g.stride});
  }
  if (j < to) {
    mix_rows<kAdd, 1, T>(ds + j * kL, kStep, count, query, head.size,
                         {g.grad_key + j * g.stride, g.stride});
    mix_rows<kAdd, 1, T>(dropped + j * kL, kStep, count, grad, head.size,
                         {g.grad_value + j * g.stride, g.stride});
  }
}

template <int R, class T>
MCLREC_INLINE void query_gradients(const AttentionHead<T>& head, const AttentionHeadGradients<T>& g,
                                   int64_t row, int64_t lane, int64_t keys, const T* dropped,
                                   const T* ds) {
  constexpr MixSteps kStep{.row = 1, .term = kLanes<T>};
  mix_rows<false, R, T>(ds + lane, kStep, keys, {head.key, head.stride}, head.size,
                        {g.grad_query + row * g.stride, g.stride});
  if (g.context == nullptr) return;
  mix_rows<false, R, T>(dropped + lane, kStep, keys, {head.value, head.stride}, head.size,
                        {g.context + row * g.context_stride, g.context_stride});
}

template <class T>
void attention_head_backward(const AttentionHead<T>& head, const AttentionHeadGradients<T>& g,
                             T* scratch) {
  constexpr int kL = kLanes<T>;
  T* lanes = scratch;                      // [size][kLanes] queries
  T* grad_lanes = lanes + head.size * kL;  // [size][kLanes] rows of grad_context
  T* p = grad_lanes + head.size * kL;      // [keys][kLanes]
  T* dropped = p + head.tokens * kL;       // [keys][kLanes]
  T* ds = dropped + head.tokens * kL;      // [keys][kLanes]
  for (int64_t first = 0; first < head.tokens; first += kL) {
    const int64_t left = head.tokens - first, count = left < kL ? left : kL;
    const int64_t keys = first + count;
    rows_to_lanes(head.query + first * head.stride, head.stride, count, head.size, lanes);
    lane_products(keys, head.key, head.stride, lanes, head.size, p);
    const Vec<T> inverse = softmax_lanes(head, first, keys, p);
    rows_to_lanes(g.grad_context + first * g.context_stride, g.context_stride, count, head.size,
                  grad_lanes);
    lane_products(keys, head.value, head.stride, grad_lanes, head.size, ds);
    softmax_lanes_backward(head, first, keys, inverse, p, dropped, ds);
    key_gradients<true>(head, g, first, count, 0, first, dropped, ds);
    key_gradients<false>(head, g, first, count, first, keys, dropped, ds);
    int64_t i = 0;
    for (; i + 2 <= count; i += 2) {
      query_gradients<2>(head, g, first + i, i, first + i + 2, dropped, ds);
    }
    if (i < count) query_gradients<1>(head, g, first + i, i, keys, dropped, ds);
  }
}

// Queues the dropout bits of heads [first_head, end_head) of one sequence, at `words`; returns
// where those of the first head will start once `bits` is flushed: words [heads][n][padded(n, 32) /
// 32]. Those of keys behind the causal mask may be left undefined. Takes whole draws, at most
// attention_bits_words(n, heads) words; none are lost in front when the first head is 0.
MCLREC_INLINE int64_t attention_bits_words(int64_t n, int64_t heads) {
  return heads * n * ceil_div(n, 32) + 6;
}

MCLREC_INLINE uint32_t* attention_head_bits(const Dropout& dropout, KeepBits& bits,
                                            int64_t sequence, int64_t n, int64_t first_head,
                                            int64_t end_head, uint32_t* words) {
  const int64_t row = round_up(n, 32);  // in bits
  const int64_t begin = first_head * n * row, end = end_head * n * row;
  const int64_t first_draw = begin / 128;  // the words start at the element 128 * first_draw
  uint8_t* bytes = reinterpret_cast<uint8_t*>(words);
  const uint32_t s = static_cast<uint32_t>(sequence);
  if (dropout.elements_per_draw() == 128) {
    for (int64_t draw = first_draw; draw * 128 < end; ++draw) {
      bits.push(static_cast<uint32_t>(draw), s, bytes + 16 * (draw - first_draw));
    }
  } else {
    for (int64_t query = first_head * n; query < end_head * n; ++query) {
      const int64_t first = query * row / 8;
      for (int64_t draw = first; draw <= first + query % n / 8; ++draw) {
        bits.push(static_cast<uint32_t>(draw), s, bytes + draw - 16 * first_draw);
      }
    }
  }
  return words + (begin - first_draw * 128) / 32;
}
