// The encoder's forward and backward pass as launches (SASRec's post-norm blocks, Kang & McAuley
// 2018, as RecBole writes it; see ops/torch/encode.py for the mathematics). Host code only.
//
// Launches at two layers: 18 forward, 22 backward (weight gradients of all layers in one, their
// sums in one). Each is a few microseconds at B = 256, so a captured CUDA graph pays.
#include <stdexcept>
#include <vector>

#include "encode_cuda.h"
#include "encode_plan.h"
#include "last_token_cuda.h"
#include "packed_attention_cuda.h"

namespace mclrec::cuda {
namespace {

// One layer's weights or gradients.
template <typename Pointer>
class LayerPointers {
 public:
  LayerPointers(Pointer const* all, int layer)
      : first_(all + kFirstLayerWeight + layer * kLayerWeights) {}
  Pointer operator[](EncodeLayerWeight weight) const { return first_[weight]; }

 private:
  Pointer const* first_;
};

// C = A W^T + bias for one weight matrix.
template <typename Real>
Dense<Real> one_dense(const RowCount& rows, int depth, int columns, const Real* a, const Real* w,
                      const Real* bias, Real* c) {
  Dense<Real> job{};
  job.rows = rows;
  job.depth = depth;
  job.columns = columns;
  job.a = a;
  job.a_stride = job.w_stride = depth;
  job.c_stride = columns;
  job.products = 1;
  job.w[0] = w;
  job.bias[0] = bias;
  job.c[0] = c;
  return job;
}

// C = A W for one weight matrix [depth, columns].
template <typename Real>
DenseInputGradient<Real> one_input_gradient(const RowCount& rows, int depth, int columns,
                                            const Real* a, const Real* w, Real* c) {
  DenseInputGradient<Real> job{};
  job.rows = rows;
  job.depth = depth;
  job.columns = columns;
  job.terms = job.products = 1;
  job.a[0] = a;
  job.w[0] = w;
  job.c = c;
  job.a_stride = depth;
  job.w_stride = job.c_stride = columns;
  return job;
}

// --- forward ------------------------------------------------------------------------------------

template <typename Real>
class Forward {
 public:
  Forward(const EncodeParams<Real>& params, Real* h, Real* saved, const Context& context)
      : weights_(params.weights),
        options_(params.options),
        shape_(params.sizes, params.batch),
        h_(h),
        precision_(context.precision()),
        stream_(context.stream()),
        carver_(saved),
        saved_(carve_saved(shape_, carver_)) {}

  void run() {
    const Packed& packed = shape_.packed;
    embed(Embed<Real>{packed, weights_[kItemEmbedding], weights_[kPositionEmbedding],
                      shape_.classes, shape_.places, weights_[kEmbeddingNorm],
                      weights_[kEmbeddingNormBias], shape_.hidden, options_.eps,
                      hidden_dropout(0, kSiteEmbedding), saved_.x, saved_.norm, saved_.sequence},
          stream_);
    const Real* x = saved_.x;
    for (int layer = 0; layer + 1 < shape_.layers; ++layer) {
      FullSaved<Real>& full = saved_.full[static_cast<std::size_t>(layer)];
      full_attention(x, layer, full);
      const Rows rows{packed.tokens(), packed.offsets, saved_.sequence, packed.capacity};
      after_attention(rows, x, layer, full.block);
      x = full.block.out;
    }
    const int layer = shape_.layers - 1;
    last_attention(x, layer);
    saved_.last.block.out = h_;
    const Rows rows{{packed.sequences, nullptr}, packed.offsets, nullptr, packed.capacity};
    after_attention(rows, saved_.last.rows, layer, saved_.last.block);
  }

 private:
  Dropout hidden_dropout(int layer, DropoutSite site) const {
    return dropout_site(options_.hidden_dropout, options_.seed, options_.update, layer, site,
                        options_.rows);
  }
  Dropout attention_dropout(int layer) const {
    return dropout_site(options_.attention_dropout, options_.seed, options_.update, layer,
                        kSiteAttention, options_.rows);
  }

  void full_attention(const Real* x, int layer, FullSaved<Real>& full) {
    const LayerPointers<const Real*> w(weights_, layer);
    const int hidden = shape_.hidden;
    Dense<Real> qkv =
        one_dense(shape_.packed.tokens(), hidden, hidden, x, w[kQuery], w[kQueryBias], full.qkv);
    qkv.products = 3;
    qkv.listed = true;
    qkv.w[1] = w[kKey], qkv.w[2] = w[kValue];
    qkv.bias[1] = w[kKeyBias], qkv.bias[2] = w[kValueBias];
    qkv.c[1] = full.qkv + hidden, qkv.c[2] = full.qkv + 2 * hidden;
    qkv.c_stride = 3 * hidden;
    dense(qkv, precision_, stream_);
    packed_attention(attention_job(shape_, full, attention_dropout(layer)), stream_);
  }

  // Attention of the last tokens with absorbed keys and values; leaves block.context.
  void last_attention(const Real* x, int layer) {
    const LayerPointers<const Real*> w(weights_, layer);
    LastSaved<Real>& last = saved_.last;
    const int hidden = shape_.hidden, heads = shape_.heads, size = hidden / heads;
    const RowCount rows{shape_.packed.sequences, nullptr};
    gather_last(shape_.packed, hidden, x, last.rows, stream_);
    dense(one_dense<Real>(rows, hidden, hidden, last.rows, w[kQuery], w[kQueryBias], last.query),
          precision_, stream_);
    // u_h = W_k,h^T q_h; q . b_k is the same for every key and drops out of the softmax.
    DenseInputGradient<Real> absorb =
        one_input_gradient<Real>(rows, size, hidden, last.query, w[kKey], last.u);
    absorb.products = heads;
    absorb.a_stride = hidden;
    absorb.c_stride = static_cast<std::int64_t>(heads) * hidden;
    absorb.a_step = size;
    absorb.w_step = static_cast<std::int64_t>(size) * hidden;
    absorb.c_step = hidden;
    dense_input_gradient(absorb, precision_, stream_);
    last_token_attention(last_job(shape_, x, last, attention_dropout(layer)), stream_);
    // context_h = W_v,h y_h + b_v,h mass_h.
    Dense<Real> mix = one_dense<Real>(rows, hidden, size, last.mixture, w[kValue], w[kValueBias],
                                      last.block.context);
    mix.products = heads;
    mix.a_stride = static_cast<std::int64_t>(heads) * hidden;
    mix.c_stride = hidden;
    mix.a_step = hidden;
    mix.w_step = static_cast<std::int64_t>(size) * hidden;
    mix.bias_step = mix.c_step = size;
    mix.bias_scale = last.mass;
    dense(mix, precision_, stream_);
  }

  // Output projection, residual, norm, feed-forward, residual, norm.
  void after_attention(const Rows& rows, const Real* x, int layer, BlockSaved<Real>& block) {
    const LayerPointers<const Real*> w(weights_, layer);
    const int hidden = shape_.hidden, inner = shape_.inner;
    dense(one_dense<Real>(rows.count, hidden, hidden, block.context, w[kOutput], w[kOutputBias],
                          saved_.sublayer),
          precision_, stream_);
    residual_norm(
        ResidualNorm<Real>{rows, hidden, x, saved_.sublayer, w[kAttentionNorm],
                           w[kAttentionNormBias], options_.eps,
                           hidden_dropout(layer, kSiteAttentionOutput), block.x1, block.norm1},
        stream_);
    Dense<Real> feed = one_dense<Real>(rows.count, hidden, inner, block.x1, w[kInner],
                                       w[kInnerBias], block.active);
    feed.pre = block.pre;
    dense(feed, precision_, stream_);
    dense(one_dense<Real>(rows.count, inner, hidden, block.active, w[kOuter], w[kOuterBias],
                          saved_.sublayer),
          precision_, stream_);
    residual_norm(
        ResidualNorm<Real>{rows, hidden, block.x1, saved_.sublayer, w[kFeedForwardNorm],
                           w[kFeedForwardNormBias], options_.eps,
                           hidden_dropout(layer, kSiteFeedForward), block.out, block.norm2},
        stream_);
  }

 public:
  static Attention<Real> attention_job(const EncodeShape& shape, const FullSaved<Real>& full,
                                       const Dropout& dropout) {
    const Packed& packed = shape.packed;
    return {packed.offsets,
            packed.capacity,
            packed.sequences,
            shape.heads,
            shape.hidden / shape.heads,
            full.qkv,
            full.qkv + shape.hidden,
            full.qkv + 2 * shape.hidden,
            3 * static_cast<std::int64_t>(shape.hidden),
            nullptr,
            packed.items,
            dropout,
            full.block.context,
            full.lse};
  }
  static LastToken<Real> last_job(const EncodeShape& shape, const Real* x,
                                  const LastSaved<Real>& last, const Dropout& dropout) {
    return {shape.packed, shape.heads, shape.hidden, x,        last.u, dropout,
            last.scores,  last.lse,    last.mixture, last.mass};
  }

 private:
  const Real* const* weights_;
  EncodeOptions options_;
  EncodeShape shape_;
  Real* h_;
  Precision precision_;
  void* stream_;
  Carver<Real> carver_;
  EncodeSaved<Real> saved_;
};

// --- backward -----------------------------------------------------------------------------------

// A matrix as a factor of a weight gradient: `columns` numbers of each row, rows `stride` apart.
template <typename Real>
struct Factor {
  const Real* at;
  std::int64_t stride;
  int columns;
};

// Weight gradients of all layers are collected and taken together.
template <typename Real>
class WeightWork {
 public:
  WeightWork(Carver<Real>& partials, Precision precision, void* stream)
      : partials_(partials), precision_(precision), stream_(stream) {}

  // dw = dy^T x and, unless null, db; see WeightGradientJob.
  void add(const RowCount& rows, const Factor<Real>& dy, const Factor<Real>& x, Real* dw, Real* db,
           const Real* bias_scale = nullptr, int bias_scale_stride = 0) {
    if (products_.jobs == kMaxWeightJobs) flush();
    const int split = weight_split_rows(rows.capacity), n = dy.columns, k = x.columns;
    const std::int64_t of_weight = static_cast<std::int64_t>(n) * k;
    const std::int64_t stride = round_up(of_weight + n, 4);
    Real* partial = partials_.take(splits_of(rows.capacity, split) * stride);
    products_.job[products_.jobs++] = {dy.at,   x.at,   dy.stride,  x.stride,
                                       n,       k,      rows,       split,
                                       partial, stride, bias_scale, bias_scale_stride};
    later_.push_back({partial, stride, of_weight, rows, split, dw});
    if (db != nullptr) later_.push_back({partial + of_weight, stride, n, rows, split, db});
  }

  // A LayerNorm's partial sums, [splits, 2, D], filled by norm_backward.
  Real* add_norm(const RowCount& rows, int hidden, Real* weight, Real* bias) {
    const int split = norm_split_rows(rows.capacity);
    Real* partial = partials_.take(splits_of(rows.capacity, split) * 2 * hidden);
    later_.push_back({partial, 2 * hidden, hidden, rows, split, weight});
    later_.push_back({partial + hidden, 2 * hidden, hidden, rows, split, bias});
    return partial;
  }

  void finish() {
    flush();
    for (std::size_t first = 0; first < later_.size(); first += kMaxSums) {
      Sums<Real> sums{};
      for (std::size_t i = first; i < later_.size() && sums.jobs < kMaxSums; ++i) {
        sums.job[sums.jobs++] = later_[i];
      }
      sum_partials(sums, stream_);
    }
  }

 private:
  void flush() {
    if (products_.jobs > 0) dense_weight_gradients(products_, precision_, stream_);
    products_.jobs = 0;
  }

  Carver<Real>& partials_;
  Precision precision_;
  void* stream_;
  WeightGradients<Real> products_{};
  std::vector<SumJob<Real>> later_;
};

// Numbers of the backward pass's scratch.
template <typename Real>
std::int64_t scratch_size(const EncodeShape& shape) {
  Carver<Real> carver(nullptr);
  carve_scratch(shape, carver);
  return carver.used() + partial_numbers(shape);
}

template <typename Real>
class Backward {
 public:
  Backward(const EncodeParams<Real>& params, const Real* grad_h, const Real* saved,
           Real* const* grads, Context& context)
      : weights_(params.weights),
        grad_h_(grad_h),
        grads_(grads),
        options_(params.options),
        shape_(params.sizes, params.batch),
        precision_(context.precision()),
        stream_(context.stream()),
        // The carver hands out what may be written; nothing here is.
        saved_carver_(const_cast<Real*>(saved)),
        carver_(context.scratch<Real>(scratch_size<Real>(shape_))),
        saved_(carve_saved(shape_, saved_carver_)),
        scratch_(carve_scratch(shape_, carver_)),
        work_(carver_, precision_, stream_),
        tokens_(sorted_tokens(context)) {}

  void run() {
    const Packed& packed = shape_.packed;
    const Rows tokens{packed.tokens(), packed.offsets, saved_.sequence, packed.capacity};
    last_layer();
    for (int layer = shape_.layers - 2; layer >= 0; --layer) full_layer(tokens, layer);

    // The embedding: dropout after its LayerNorm, then sums over the tokens of an item or position.
    Real* grad_tokens = scratch_.residual1;
    norm_backward(
        NormBackward<Real>{tokens, shape_.hidden, scratch_.grad_out, weights_[kEmbeddingNorm],
                           saved_.norm, hidden_dropout(0, kSiteEmbedding), true, grad_tokens,
                           nullptr, norm_split_rows(packed.capacity),
                           work_.add_norm(packed.tokens(), shape_.hidden, grads_[kEmbeddingNorm],
                                          grads_[kEmbeddingNormBias])},
        stream_);
    item_gradient(packed, shape_.hidden, shape_.classes, grad_tokens, tokens_.keys, tokens_.order,
                  grads_[kItemEmbedding], stream_);
    position_gradient(packed, shape_.hidden, shape_.places, grad_tokens, grads_[kPositionEmbedding],
                      stream_);
    work_.finish();
    if (carver_.used() > scratch_size<Real>(shape_)) {
      throw std::logic_error("encode_backward: the scratch was estimated too small");
    }
  }

 private:
  Dropout hidden_dropout(int layer, DropoutSite site) const {
    return dropout_site(options_.hidden_dropout, options_.seed, options_.update, layer, site,
                        options_.rows);
  }
  Dropout attention_dropout(int layer) const {
    return dropout_site(options_.attention_dropout, options_.seed, options_.update, layer,
                        kSiteAttention, options_.rows);
  }
  const Real* input_of(int layer) const {
    return layer == 0 ? saved_.x : saved_.full[static_cast<std::size_t>(layer) - 1].block.out;
  }

  // From the gradient of a layer's output to that of its attention's context (grad_context) and of
  // the residual that bypasses the attention (scratch.residual1).
  void after_attention(const Rows& rows, const Real* grad, int layer, const BlockSaved<Real>& saved,
                       Real* grad_context) {
    const LayerPointers<const Real*> w(weights_, layer);
    const LayerPointers<Real*> g(grads_, layer);
    const BlockGradients<Real>& kept = scratch_.blocks[static_cast<std::size_t>(layer)];
    const RowCount& count = rows.count;
    const int hidden = shape_.hidden, inner = shape_.inner;
    const int split = norm_split_rows(count.capacity);
    norm_backward(
        NormBackward<Real>{
            rows, hidden, grad, w[kFeedForwardNorm], saved.norm2,
            hidden_dropout(layer, kSiteFeedForward), false, scratch_.residual2, kept.outer, split,
            work_.add_norm(count, hidden, g[kFeedForwardNorm], g[kFeedForwardNormBias])},
        stream_);
    DenseInputGradient<Real> active =
        one_input_gradient<Real>(count, hidden, inner, kept.outer, w[kOuter], kept.inner);
    active.pre = saved.pre;
    dense_input_gradient(active, precision_, stream_);
    DenseInputGradient<Real> x1 =
        one_input_gradient<Real>(count, inner, hidden, kept.inner, w[kInner], scratch_.grad_x1);
    x1.add = scratch_.residual2;
    dense_input_gradient(x1, precision_, stream_);
    norm_backward(
        NormBackward<Real>{rows, hidden, scratch_.grad_x1, w[kAttentionNorm], saved.norm1,
                           hidden_dropout(layer, kSiteAttentionOutput), false, scratch_.residual1,
                           kept.attended, split,
                           work_.add_norm(count, hidden, g[kAttentionNorm], g[kAttentionNormBias])},
        stream_);
    dense_input_gradient(
        one_input_gradient<Real>(count, hidden, hidden, kept.attended, w[kOutput], grad_context),
        precision_, stream_);
    work_.add(count, {kept.outer, hidden, hidden}, {saved.active, inner, inner}, g[kOuter],
              g[kOuterBias]);
    work_.add(count, {kept.inner, inner, inner}, {saved.x1, hidden, hidden}, g[kInner],
              g[kInnerBias]);
    work_.add(count, {kept.attended, hidden, hidden}, {saved.context, hidden, hidden}, g[kOutput],
              g[kOutputBias]);
  }

  // Leaves the gradient of the last layer's input, [T, D], in scratch.grad_out.
  void last_layer() {
    const int layer = shape_.layers - 1;
    const LayerPointers<const Real*> w(weights_, layer);
    const LayerPointers<Real*> g(grads_, layer);
    const LastSaved<Real>& last = saved_.last;
    const Packed& packed = shape_.packed;
    const RowCount count{packed.sequences, nullptr};
    const Rows rows{count, packed.offsets, nullptr, packed.capacity};
    const int hidden = shape_.hidden, heads = shape_.heads, size = hidden / heads;
    const std::int64_t wide = static_cast<std::int64_t>(heads) * hidden;
    const std::int64_t head_weights = static_cast<std::int64_t>(size) * hidden;
    after_attention(rows, grad_h_, layer, last.block, scratch_.last_context);

    DenseInputGradient<Real> mixture = one_input_gradient<Real>(
        count, size, hidden, scratch_.last_context, w[kValue], scratch_.grad_mixture);
    mixture.products = heads;
    mixture.a_stride = hidden;
    mixture.c_stride = wide;
    mixture.a_step = size;
    mixture.w_step = head_weights;
    mixture.c_step = hidden;
    dense_input_gradient(mixture, precision_, stream_);
    last_token_attention_backward(
        LastTokenBackward<Real>{
            Forward<Real>::last_job(shape_, input_of(layer), last, attention_dropout(layer)),
            scratch_.grad_mixture, scratch_.last_context, w[kValueBias], scratch_.grad_scores,
            scratch_.dropped, scratch_.grad_u, scratch_.grad_out},
        stream_);
    // u_h = W_k,h^T q_h, so dq_h = W_k,h du_h and dW_k,h = q_h du_h^T.
    Dense<Real> query = one_dense<Real>(count, hidden, size, scratch_.grad_u, w[kKey], nullptr,
                                        scratch_.grad_query);
    query.products = heads;
    query.a_stride = wide;
    query.c_stride = hidden;
    query.a_step = hidden;
    query.w_step = head_weights;
    query.c_step = size;
    dense(query, precision_, stream_);
    DenseInputGradient<Real> input = one_input_gradient<Real>(
        count, hidden, hidden, scratch_.grad_query, w[kQuery], scratch_.grad_rows);
    input.add = scratch_.residual1;
    dense_input_gradient(input, precision_, stream_);
    add_to_last(packed, hidden, scratch_.grad_rows, scratch_.grad_out, stream_);

    work_.add(count, {scratch_.grad_query, hidden, hidden}, {last.rows, hidden, hidden}, g[kQuery],
              g[kQueryBias]);
    for (int head = 0; head < heads; ++head) {
      work_.add(count, {last.query + head * size, hidden, size},
                {scratch_.grad_u + head * hidden, wide, hidden}, g[kKey] + head * head_weights,
                nullptr);
      work_.add(count, {scratch_.last_context + head * size, hidden, size},
                {last.mixture + head * hidden, wide, hidden}, g[kValue] + head * head_weights,
                g[kValueBias] + head * size, last.mass + head, heads);
    }
  }

  // From scratch.grad_out, the gradient of the layer's output, to that of its input, in its place.
  void full_layer(const Rows& rows, int layer) {
    const LayerPointers<const Real*> w(weights_, layer);
    const LayerPointers<Real*> g(grads_, layer);
    const FullSaved<Real>& full = saved_.full[static_cast<std::size_t>(layer)];
    Real* grad_qkv = scratch_.grad_qkv[static_cast<std::size_t>(layer)];
    const int hidden = shape_.hidden;
    after_attention(rows, scratch_.grad_out, layer, full.block, scratch_.grad_context);
    packed_attention_backward(
        AttentionBackward<Real>{
            Forward<Real>::attention_job(shape_, full, attention_dropout(layer)),
            scratch_.grad_context, scratch_.delta, grad_qkv, grad_qkv + hidden,
            grad_qkv + 2 * hidden, 3 * static_cast<std::int64_t>(hidden)},
        stream_);
    DenseInputGradient<Real> input = one_input_gradient<Real>(rows.count, hidden, hidden, grad_qkv,
                                                              w[kQuery], scratch_.grad_out);
    input.terms = 3;
    input.a[1] = grad_qkv + hidden, input.a[2] = grad_qkv + 2 * hidden;
    input.w[1] = w[kKey], input.w[2] = w[kValue];
    input.a_stride = 3 * hidden;
    input.add = scratch_.residual1;
    dense_input_gradient(input, precision_, stream_);
    Real* const grads[3] = {g[kQuery], g[kKey], g[kValue]};
    Real* const bias_grads[3] = {g[kQueryBias], g[kKeyBias], g[kValueBias]};
    for (int i = 0; i < 3; ++i) {
      work_.add(rows.count, {grad_qkv + i * hidden, 3 * hidden, hidden},
                {input_of(layer), hidden, hidden}, grads[i], bias_grads[i]);
    }
  }

  // Tokens in the order of their items, if there are too many to search; see item_gradient.
  SortedKeys sorted_tokens(Context& context) const {
    const std::int64_t capacity = shape_.packed.capacity;
    if (capacity <= kItemScanTokens) return {};
    auto* const keys = context.scratch<std::int32_t>(capacity);
    token_keys(shape_.packed, shape_.classes, keys, context.stream());
    return context.sort(keys, capacity);
  }

  const Real* const* weights_;
  const Real* grad_h_;
  Real* const* grads_;
  EncodeOptions options_;
  EncodeShape shape_;
  Precision precision_;
  void* stream_;
  Carver<Real> saved_carver_, carver_;
  EncodeSaved<Real> saved_;
  EncodeScratch<Real> scratch_;
  WeightWork<Real> work_;
  SortedKeys tokens_;
};

}  // namespace

template <typename Real>
std::int64_t encode_saved_size(const EncodeSizes& sizes) {
  Carver<Real> carver(nullptr);
  carve_saved(EncodeShape(sizes, {}), carver);
  return carver.used();
}

template <typename Real>
void encode_forward(const EncodeParams<Real>& params, Real* h, Real* saved, Context& context) {
  if (params.sizes.sequences == 0) return;
  if (saved == nullptr) saved = context.scratch<Real>(encode_saved_size<Real>(params.sizes));
  Forward<Real>(params, h, saved, context).run();
}

template <typename Real>
void encode_backward(const EncodeParams<Real>& params, const Real* grad_h, const Real* saved,
                     Real* const* grads, bool, Context& context) {
  if (params.sizes.sequences == 0) return;
  Backward<Real>(params, grad_h, saved, grads, context).run();
}

#define MCLREC_INSTANTIATE(Real)                                                                   \
  template std::int64_t encode_saved_size<Real>(const EncodeSizes&);                               \
  template void encode_forward(const EncodeParams<Real>&, Real*, Real*, Context&);                 \
  template void encode_backward(const EncodeParams<Real>&, const Real*, const Real*, Real* const*, \
                                bool, Context&);
MCLREC_INSTANTIATE(float)
MCLREC_INSTANTIATE(double)
#undef MCLREC_INSTANTIATE

}  // namespace mclrec::cuda
