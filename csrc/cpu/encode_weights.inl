// The encoder's weights as its kernels want them: matrices in panels (products.inl), heads padded
// to whole vectors, vectors padded with zeros. Packed once per call, 4 bytes of traffic a weight.
// No #include and no namespace here: see encode_cpu.cpp.

MCLREC_INLINE int64_t padded(int64_t n, int64_t multiple = kPadding) {
  return ::mclrec::padded(n, multiple);
}

// Column of a [D]-wide matrix behind column `c` of a padded attention row; -1 for padding.
MCLREC_INLINE int64_t attention_column(const EncodeLayout& layout, int64_t c) {
  const int64_t h = c / layout.head_row, e = c % layout.head_row;
  return h < layout.heads && e < layout.head ? h * layout.head + e : -1;
}

// One [D, D] matrix between hidden columns and padded attention columns.
template <class T>
class AttentionMatrix {
 public:
  AttentionMatrix(const EncodeLayout& layout, const T* weight) : layout_(layout), weight_(weight) {}

  // Element (attention column a, hidden column d) at weight[a * step_a + d * step_d]; the product
  // sums over attention columns (depth = layout.attention) or makes them.
  void pack_depth(int64_t step_a, int64_t step_d, T* panels) const {
    if (whole()) {
      return Products<T>::pack(weight_, step_a, step_d, layout_.attention, layout_.hidden, panels);
    }
    Products<T>::pack_each(layout_.attention, layout_.hidden, panels, [&](int64_t k, int64_t n) {
      const int64_t a = attention_column(layout_, k);
      return a < 0 ? T(0) : weight_[a * step_a + n * step_d];
    });
  }
  void pack_columns(int64_t step_a, int64_t step_d, T* panels) const {
    if (whole()) {
      return Products<T>::pack(weight_, step_d, step_a, layout_.hidden, layout_.hidden, panels);
    }
    Products<T>::pack_each(layout_.hidden, layout_.attention_row, panels,
                           [&](int64_t k, int64_t n) {
                             const int64_t a = attention_column(layout_, n);
                             return a < 0 ? T(0) : weight_[a * step_a + k * step_d];
                           });
  }

 private:
  bool whole() const { return layout_.attention_row == layout_.hidden; }

  const EncodeLayout& layout_;
  const T* weight_;
};

template <class T>
void pad_vector(const T* from, int64_t count, int64_t row, T* to) {
  for (int64_t i = 0; i < row; ++i) to[i] = i < count ? from[i] : T(0);
}

template <class T>
void pad_attention_vector(const EncodeLayout& layout, const T* from, T* to) {
  for (int64_t c = 0; c < layout.attention_row; ++c) {
    const int64_t a = attention_column(layout, c);
    to[c] = a < 0 ? T(0) : from[a];
  }
}

// The vectors of a layer, padded.
template <class T>
struct LayerVectors {
  T* qkv_bias;  // [3][attention_row]
  T* output_bias;
  T* attention_norm;
  T* attention_norm_bias;
  T* inner_bias;  // [inner_row]
  T* outer_bias;
  T* feed_forward_norm;
  T* feed_forward_norm_bias;
};

// Panels of a layer's matrices. Forward they are used as x W^T, backward as y W.
template <class T>
struct LayerPanels {
  T* query;  // of a full layer, forward: query, key and value are one matrix
  T* key;    // of the last layer: per head
  T* value;  // of the last layer: per head
  T* output;
  T* inner;  // backward: per kInnerColumns of depth
  T* outer;  // forward: per kInnerColumns of depth
};

// Cache lines of a row of a tile of floats.
constexpr int kTileLines = kVectorBytes == 64 ? 2 : 1;

constexpr int kPackTasks = 7;  // per layer

template <class T>
struct PackedWeights {
  T* embedding_norm;
  T* embedding_norm_bias;
  LayerVectors<T>* vectors;  // [layers]
  LayerPanels<T>* panels;    // [layers]

  PackedWeights(const EncodeLayout& layout, bool backward, Scratch& scratch) {
    const int64_t row = layout.hidden_row;
    embedding_norm = scratch.take<T>(row);
    embedding_norm_bias = scratch.take<T>(row);
    vectors = scratch.take<LayerVectors<T>>(layout.layers);
    panels = scratch.take<LayerPanels<T>>(layout.layers);
    for (int64_t l = 0; l < layout.layers; ++l) {
      LayerVectors<T>& v = vectors[l];
      v.qkv_bias = scratch.take<T>(3 * layout.attention_row);
      v.inner_bias = scratch.take<T>(layout.inner_row);
      for (T** vector : {&v.output_bias, &v.attention_norm, &v.attention_norm_bias, &v.outer_bias,
                         &v.feed_forward_norm, &v.feed_forward_norm_bias}) {
        *vector = scratch.take<T>(row);
      }
      LayerPanels<T>& p = panels[l];
      const int64_t attention = backward
                                    ? Products<T>::panels_size(layout.attention, layout.hidden)
                                    : Products<T>::panels_size(layout.hidden, layout.attention_row);
      const int64_t per_head =
          layout.heads * std::max(Products<T>::panels_size(layout.hidden, layout.head),
                                  Products<T>::panels_size(layout.head, layout.hidden));
      p.query = scratch.take<T>(l + 1 < layout.layers ? 3 * attention : attention);
      p.key = l + 1 < layout.layers ? p.query + attention : scratch.take<T>(per_head);
      p.value = l + 1 < layout.layers ? p.key + attention : scratch.take<T>(per_head);
      p.output = scratch.take<T>(Products<T>::panels_size(row, layout.attention_row));
      p.inner = scratch.take<T>(Products<T>::panels_size(row, layout.inner_row));
      p.outer = scratch.take<T>(Products<T>::panels_size(row, layout.inner_row));
    }
  }

  // weights: those of the layer, in the order of EncodeLayerWeight.
  void pack_vectors(const EncodeLayout& layout, int64_t l, const T* const* weights) const {
    const LayerVectors<T>& v = vectors[l];
    pad_attention_vector(layout, weights[kQueryBias], v.qkv_bias);
    pad_attention_vector(layout, weights[kKeyBias], v.qkv_bias + layout.attention_row);
    pad_attention_vector(layout, weights[kValueBias], v.qkv_bias + 2 * layout.attention_row);
    const int64_t hidden = layout.hidden, row = layout.hidden_row;
    pad_vector(weights[kOutputBias], hidden, row, v.output_bias);
    pad_vector(weights[kAttentionNorm], hidden, row, v.attention_norm);
    pad_vector(weights[kAttentionNormBias], hidden, row, v.attention_norm_bias);
    pad_vector(weights[kInnerBias], layout.inner, layout.inner_row, v.inner_bias);
    pad_vector(weights[kOuterBias], hidden, row, v.outer_bias);
    pad_vector(weights[kFeedForwardNorm], hidden, row, v.feed_forward_norm);
    pad_vector(weights[kFeedForwardNormBias], hidden, row, v.feed_forward_norm_bias);
  }

  void pack_forward(const EncodeLayout& layout, int64_t l, int task, const T* const* weights) const;
  void pack_backward(const EncodeLayout& layout, int64_t l, int task,
                     const T* const* weights) const;
};

// Per head, as x W^T from hidden columns to the head's (or as y W the other way round).
template <class T>
void pack_heads_forward(const EncodeLayout& layout, const T* weight, T* panels) {
  const int64_t hidden = layout.hidden, size = Products<T>::panels_size(hidden, layout.head);
  for (int64_t h = 0; h < layout.heads; ++h) {
    Products<T>::pack(weight + h * layout.head * hidden, 1, hidden, hidden, layout.head,
                      panels + h * size);
  }
}

template <class T>
void pack_heads_backward(const EncodeLayout& layout, const T* weight, T* panels) {
  const int64_t hidden = layout.hidden, size = Products<T>::panels_size(layout.head, hidden);
  for (int64_t h = 0; h < layout.heads; ++h) {
    Products<T>::pack(weight + h * layout.head * hidden, hidden, 1, layout.head, hidden,
                      panels + h * size);
  }
}

// visit(first, count, offset of the panels) for each kInnerColumns of the inner layer as depth.
template <class T, class Visit>
MCLREC_INLINE void each_inner_part(const EncodeLayout& layout, const Visit& visit) {
  int64_t offset = 0;
  for (int64_t first = 0; first < layout.inner; first += kInnerColumns) {
    const int64_t left = layout.inner - first;
    const int64_t count = left < kInnerColumns ? left : kInnerColumns;
    visit(first, count, offset);
    offset += Products<T>::panels_size(count, layout.hidden);
  }
}

template <class T>
void PackedWeights<T>::pack_forward(const EncodeLayout& layout, int64_t l, int task,
                                    const T* const* weights) const {
  const LayerPanels<T>& p = panels[l];
  const int64_t hidden = layout.hidden, inner = layout.inner;
  const bool last = l + 1 == layout.layers;
  switch (task) {
    case 0:
      pack_vectors(layout, l, weights);
      break;
    case 1:
      AttentionMatrix<T>(layout, weights[kQuery]).pack_columns(hidden, 1, p.query);
      break;
    case 2:
      if (last) {
        pack_heads_backward(layout, weights[kKey], p.key);  // u_h = q_h W_k,h
      } else {
        AttentionMatrix<T>(layout, weights[kKey]).pack_columns(hidden, 1, p.key);
      }
      break;
    case 3:
      if (last) {
        pack_heads_forward(layout, weights[kValue], p.value);
      } else {
        AttentionMatrix<T>(layout, weights[kValue]).pack_columns(hidden, 1, p.value);
      }
      break;
    case 4:
      AttentionMatrix<T>(layout, weights[kOutput]).pack_depth(1, hidden, p.output);
      break;
    case 5:
      Products<T>::pack(weights[kInner], 1, hidden, hidden, inner, p.inner);
      break;
    default:
      each_inner_part<T>(layout, [&](int64_t first, int64_t count, int64_t offset) {
        Products<T>::pack(weights[kOuter] + first, 1, inner, count, hidden, p.outer + offset);
      });
  }
}

template <class T>
void PackedWeights<T>::pack_backward(const EncodeLayout& layout, int64_t l, int task,
                                     const T* const* weights) const {
  const LayerPanels<T>& p = panels[l];
  const int64_t hidden = layout.hidden, inner = layout.inner;
  const bool last = l + 1 == layout.layers;
  const auto pack_depth = [&](int matrix, T* to) {
    AttentionMatrix<T>(layout, weights[matrix]).pack_depth(hidden, 1, to);
  };
  switch (task) {
    case 0:
      pack_vectors(layout, l, weights);
      break;
    case 1:
      pack_depth(kQuery, p.query);
      break;
    case 2:
      if (last) {
        pack_heads_forward(layout, weights[kKey], p.key);  // dq_h = du_h W_k,h^T
      } else {
        pack_depth(kKey, p.key);
      }
      break;
    case 3:
      if (last) {
        pack_heads_backward(layout, weights[kValue], p.value);
      } else {
        pack_depth(kValue, p.value);
      }
      break;
    case 4:
      AttentionMatrix<T>(layout, weights[kOutput]).pack_columns(1, hidden, p.output);
      break;
    case 5:
      each_inner_part<T>(layout, [&](int64_t first, int64_t count, int64_t offset) {
        Products<T>::pack(weights[kInner] + first * hidden, hidden, 1, count, hidden,
                          p.inner + offset);
      });
      break;
    default:
      Products<T>::pack(weights[kOuter], inner, 1, hidden, inner, p.outer);
  }
}

// Both directions: one parallel region.
template <class T>
void pack_weights(const EncodeLayout& layout, const T* const* weights, bool backward,
                  const PackedWeights<T>& packed) {
  const int64_t row = layout.hidden_row;
  pad_vector(weights[kEmbeddingNorm], layout.hidden, row, packed.embedding_norm);
  pad_vector(weights[kEmbeddingNormBias], layout.hidden, row, packed.embedding_norm_bias);
  parallel_tasks(layout.layers * kPackTasks, [&](int64_t task, int) {
    const int64_t l = task / kPackTasks;
    const T* const* of_layer = weights + kFirstLayerWeight + l * kLayerWeights;
    if (backward) {
      packed.pack_backward(layout, l, static_cast<int>(task % kPackTasks), of_layer);
    } else {
      packed.pack_forward(layout, l, static_cast<int>(task % kPackTasks), of_layer);
    }
  });
}
