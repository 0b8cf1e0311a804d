// encode for torch, on the CPU and on CUDA: checks, allocation, the calls. Values on a GPU (items,
// positions, offsets, the update's number) are not read here: the kernels clamp them, and take the
// number's low 32 bits.
#include <optional>
#include <ostream>
#include <tuple>
#include <utility>
#include <vector>

#include "checks.h"
#include "device.h"
#ifdef MCLREC_CUDA
#include "../cuda/encode_cuda.h"
#include "../cuda/norm_cuda.h"
#include "../cuda/packed_attention_cuda.h"
#else
#include "../cpu/encode_cpu.h"
#include "../ops_cpu/chain.h"
#endif

namespace mclrec {
namespace {

constexpr const char* kOp = "encode";

// A weight in messages, by its name in the list of shared/encode.h.
struct WeightName {
  const char* name;
  int64_t layer;  // -1: the embedding

  friend std::ostream& operator<<(std::ostream& text, const WeightName& self) {
    text << self.name;
    return self.layer < 0 ? text : text << " of layer " << self.layer;
  }
};

// The arguments of all ops, checked and dense.
struct Inputs {
  Tensor items;                // [capacity] int32
  Tensor positions;            // [capacity] int32
  Tensor offsets;              // [S + 1] int32
  std::optional<Tensor> rows;  // [S] int32
  std::vector<Tensor> weights;
  EncodeSizes sizes{};
  EncodeOptions options;

  const Tensor& like() const { return weights[0]; }
  EncodeBatch batch() const {
    return {.items = read_pointer<int32_t>(items),
            .positions = read_pointer<int32_t>(positions),
            .offsets = read_pointer<int32_t>(offsets)};
  }
  template <class T>
  std::vector<const T*> weight_pointers() const {
    std::vector<const T*> pointers;
    for (const Tensor& weight : weights) pointers.push_back(read_pointer<T>(weight));
    return pointers;
  }
};

#ifdef MCLREC_CUDA

using cuda::encode_backward;
using cuda::encode_forward;
using cuda::encode_saved_size;

// Values are not looked at.
void check_batch(const Checker& check, Inputs& inputs) {
  EncodeSizes& sizes = inputs.sizes;
  sizes.tokens = sizes.capacity;
  check.require(sizes.sequences == 0 || sizes.capacity > 0, "there are sequences but no tokens");
  check.rows({sizes.capacity, sizes.items, sizes.positions});
  check.require(
      sizes.hidden <= cuda::kWidestNorm && sizes.hidden / sizes.heads <= cuda::kWidestHead,
      "on CUDA the hidden size must be 1..", cuda::kWidestNorm,
      ", a multiple of the heads, each at most ", cuda::kWidestHead, "; got ", sizes.hidden,
      " with ", sizes.heads, " heads (use backend=\"torch\")");
}

// The kernels write no gradient of an item without a token, nor that of the last layer's key bias,
// which shifts all scores of a softmax alike.
Tensor gradient_of(const Inputs& inputs, size_t weight) {
  const Tensor& of = inputs.weights[weight];
  const size_t last_layer = inputs.weights.size() - kLayerWeights;
  if (inputs.sizes.sequences > 0 && weight != kItemEmbedding && weight != last_layer + kKeyBias) {
    return gradient_like(of, true);
  }
  return of.dim() == 1 ? zeros(of, {of.size(0)}) : zeros(of, {of.size(0), of.size(1)});
}

#else

template <class T>
int64_t encode_saved_size(const EncodeSizes& sizes) {
  return mclrec::encode_saved_size(sizes);
}

template <class T>
void encode_forward(const EncodeParams<T>& params, T* h, T* saved, const Call&) {
  mclrec::encode_forward(params, h, saved);
}

template <class T>
void encode_backward(const EncodeParams<T>& params, const T* grad_h, const T* saved,
                     T* const* gradients, bool add_items, const Call&) {
  mclrec::encode_backward(params, grad_h, saved, gradients, add_items);
}

void check_batch(const Checker& check, Inputs& inputs) {
  EncodeSizes& sizes = inputs.sizes;
  const EncodeBatch batch = inputs.batch();
  sizes.tokens = batch.offsets[sizes.sequences];
  check.require(batch.offsets[0] == 0, "offsets must start at 0, got ", batch.offsets[0]);
  for (int64_t s = 0; s < sizes.sequences; ++s) {
    check.require(batch.offsets[s + 1] > batch.offsets[s],
                  "offsets must ascend (no sequence is empty), got ", batch.offsets[s], " and ",
                  batch.offsets[s + 1], " around sequence ", s);
  }
  check.require(sizes.tokens <= sizes.capacity, "offsets end at ", sizes.tokens, ", but there are ",
                sizes.capacity, " tokens");
  // One comparison a token finds out whether any is bad; only then which one.
  uint32_t bad = 0;
  for (int64_t t = 0; t < sizes.tokens; ++t) {
    bad |= static_cast<uint32_t>(static_cast<uint32_t>(batch.items[t]) >= sizes.items) |
           static_cast<uint32_t>(static_cast<uint32_t>(batch.positions[t]) >= sizes.positions);
  }
  for (int64_t t = 0; bad != 0 && t < sizes.tokens; ++t) {
    check.require(batch.items[t] >= 0 && batch.items[t] < sizes.items, "items[", t,
                  "] must be in 0..", sizes.items - 1, ", got ", batch.items[t]);
    check.require(batch.positions[t] >= 0 && batch.positions[t] < sizes.positions, "positions[", t,
                  "] must be in 0..", sizes.positions - 1, ", got ", batch.positions[t]);
  }
}

Tensor gradient_of(const Inputs& inputs, size_t weight) {
  return gradient_like(inputs.weights[weight], true);
}

#endif

// The sizes that the letters of a shape stand for.
int64_t size_of(char letter, const EncodeSizes& sizes) {
  switch (letter) {
    case 'V':
      return sizes.items;
    case 'P':
      return sizes.positions;
    case 'F':
      return sizes.inner;
    default:
      return sizes.hidden;
  }
}

std::vector<Tensor> check_weights(const Checker& check, const std::vector<Tensor>& weights,
                                  EncodeSizes& sizes) {
  const int64_t count = static_cast<int64_t>(weights.size()), of_layers = count - kFirstLayerWeight;
  check.require(of_layers >= kLayerWeights && of_layers % kLayerWeights == 0, "weights must be ",
                kFirstLayerWeight, " and ", kLayerWeights,
                " for each layer, at least one layer, got ", count);
  check.floating("item_embedding", weights[kItemEmbedding], {-1, -1});
  const ScalarType dtype = weights[kItemEmbedding].scalar_type();
  const Tensor& positions = weights[kPositionEmbedding];
  const Tensor& inner = weights[kFirstLayerWeight + kInner];
  check.tensor("position_embedding", positions, dtype, {-1, -1});
  check.tensor("inner of layer 0", inner, dtype, {-1, -1});
  sizes.layers = of_layers / kLayerWeights;
  sizes.items = weights[kItemEmbedding].size(0);
  sizes.hidden = weights[kItemEmbedding].size(1);
  sizes.positions = positions.size(0);
  sizes.inner = inner.size(0);
  check.require(sizes.hidden >= 1 && sizes.inner >= 1,
                "the hidden and the inner size must be at least 1");
  std::vector<Tensor> checked;
  checked.reserve(weights.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t layer = i < kFirstLayerWeight ? -1 : (i - kFirstLayerWeight) / kLayerWeights;
    const WeightOfEncode& weight = i < kFirstLayerWeight
                                       ? kEmbeddingWeightTable[i]
                                       : kLayerWeightTable[(i - kFirstLayerWeight) % kLayerWeights];
    const int64_t shape[] = {size_of(weight.shape[0], sizes), size_of(weight.shape[1], sizes)};
    check.tensor(WeightName{weight.name, layer}, weights[static_cast<size_t>(i)], dtype,
                 Shape(shape, weight.shape[1] == '\0' ? 1 : 2));
    checked.push_back(dense(weights[static_cast<size_t>(i)]));
  }
  return checked;
}

EncodeOptions check_options(const Checker& check, double hidden_dropout, double attention_dropout,
                            double eps, int64_t seed, const Tensor& update) {
  check.counter("update", update);
  check.require(eps >= 0.0, "eps must be at least 0, got ", eps);
  check.require(hidden_dropout >= 0.0 && hidden_dropout < 1.0 && attention_dropout >= 0.0 &&
                    attention_dropout < 1.0,
                "dropout must be in [0, 1), got ", hidden_dropout, " and ", attention_dropout);
  return {.hidden_dropout = hidden_dropout,
          .attention_dropout = attention_dropout,
          .eps = eps,
          .seed = static_cast<uint64_t>(seed),
          .update = read_pointer<int64_t>(update)};
}

Inputs check_inputs(const Checker& check, const Tensor& items, const Tensor& positions,
                    const Tensor& offsets, const std::vector<Tensor>& weights, int64_t heads,
                    const EncodeOptions& options, const std::optional<Tensor>& rows) {
  check.tensor("items", items, ScalarType::Int, {-1});
  check.tensor("positions", positions, ScalarType::Int, {items.size(0)});
  check.tensor("offsets", offsets, ScalarType::Int, {-1});
  check.require(offsets.size(0) >= 1, "offsets must hold at least one number");
  if (rows) check.tensor("rows", *rows, ScalarType::Int, {offsets.size(0) - 1});
  EncodeSizes sizes{};
  std::vector<Tensor> dense_weights = check_weights(check, weights, sizes);
  check.require(heads >= 1 && sizes.hidden % heads == 0, "heads must divide the hidden size ",
                sizes.hidden, ", got ", heads);
  sizes.heads = heads;
  sizes.sequences = offsets.size(0) - 1;
  sizes.capacity = items.size(0);
  Inputs inputs{.items = dense(items),
                .positions = dense(positions),
                .offsets = dense(offsets),
                .rows = rows ? std::optional<Tensor>(dense(*rows)) : std::nullopt,
                .weights = std::move(dense_weights),
                .sizes = sizes,
                .options = options};
  if (inputs.rows) inputs.options.rows = read_pointer<int32_t>(*inputs.rows);
  check_batch(check, inputs);
  return inputs;
}

}  // namespace

// (h [S, D], what the backward pass needs [*]; [0] unless `save`).
std::tuple<Tensor, Tensor> encode_op(const Tensor& items, const Tensor& positions,
                                     const Tensor& offsets, const std::vector<Tensor>& weights,
                                     int64_t heads, double hidden_dropout, double attention_dropout,
                                     double eps, int64_t seed, const Tensor& update, bool save,
                                     const std::optional<Tensor>& rows) {
  const Checker check(kOp, items);
  const EncodeOptions options =
      check_options(check, hidden_dropout, attention_dropout, eps, seed, update);
  const Inputs inputs =
      check_inputs(check, items, positions, offsets, weights, heads, options, rows);
  Call call("encode", inputs.like());
  const Tensor h = empty(inputs.like(), {inputs.sizes.sequences, inputs.sizes.hidden});
  return by_dtype(inputs.like(), [&]<class T>() -> std::tuple<Tensor, Tensor> {
    const Tensor saved = kept<T>(inputs.like(), {save ? encode_saved_size<T>(inputs.sizes) : 0});
    const std::vector<const T*> pointers = inputs.weight_pointers<T>();
    encode_forward(EncodeParams<T>{.sizes = inputs.sizes,
                                   .batch = inputs.batch(),
                                   .weights = pointers.data(),
                                   .options = inputs.options},
                   write_pointer<T>(h), wanted_pointer<T>(saved), call);
    call.done();
    return {h, saved};
  });
}

namespace {

// The gradients of all weights; where `grad_items` is given (CPU only), that of the item embedding
// is added to it instead, and the others are returned.
std::vector<Tensor> backward(const Checker& check, const Inputs& inputs, const Tensor& grad_h_in,
                             const Tensor& saved_in, const Tensor* grad_items, Call& call) {
  const EncodeSizes& sizes = inputs.sizes;
  const ScalarType dtype = inputs.like().scalar_type();
  check.tensor("grad_h", grad_h_in, dtype, {sizes.sequences, sizes.hidden});
  if (grad_items != nullptr) {
    check.tensor("grad_items", *grad_items, dtype, {sizes.items, sizes.hidden});
    check.require(grad_items->is_contiguous(), "grad_items must be contiguous");
  }
  return by_dtype(inputs.like(), [&]<class T>() {
    check.tensor("saved", saved_in, dtype, {encode_saved_size<T>(sizes)});
    const Tensor grad_h = dense(grad_h_in), saved = dense(saved_in);
    std::vector<Tensor> gradients;
    std::vector<T*> to;
    for (size_t i = 0; i < inputs.weights.size(); ++i) {
      if (i == kItemEmbedding && grad_items != nullptr) {
        to.push_back(write_pointer<T>(*grad_items));
        continue;
      }
      gradients.push_back(gradient_of(inputs, i));
      to.push_back(write_pointer<T>(gradients.back()));
    }
    const std::vector<const T*> pointers = inputs.weight_pointers<T>();
    encode_backward(EncodeParams<T>{.sizes = sizes,
                                    .batch = inputs.batch(),
                                    .weights = pointers.data(),
                                    .options = inputs.options},
                    read_pointer<T>(grad_h), read_pointer<T>(saved), to.data(),
                    grad_items != nullptr, call);
    call.done();
    return gradients;
  });
}

std::vector<Tensor> encode_backward_op(const Tensor& grad_h, const Tensor& items,
                                       const Tensor& positions, const Tensor& offsets,
                                       const std::vector<Tensor>& weights, const Tensor& saved,
                                       int64_t heads, double hidden_dropout,
                                       double attention_dropout, double eps, int64_t seed,
                                       const Tensor& update, const std::optional<Tensor>& rows) {
  const Checker check(kOp, items);
  const EncodeOptions options =
      check_options(check, hidden_dropout, attention_dropout, eps, seed, update);
  const Inputs inputs =
      check_inputs(check, items, positions, offsets, weights, heads, options, rows);
  Call call("encode_backward", inputs.like());
  return backward(check, inputs, grad_h, saved, nullptr, call);
}

MCLREC_LIBRARY_IMPL(m) {
  m.impl("encode", TORCH_BOX(&encode_op));
  m.impl("encode_backward", TORCH_BOX(&encode_backward_op));
}

#ifndef MCLREC_CUDA

}  // namespace

std::vector<Tensor> encode_backward_add_op(const Tensor& grad_h, const Tensor& items,
                                           const Tensor& positions, const Tensor& offsets,
                                           const std::vector<Tensor>& weights, const Tensor& saved,
                                           int64_t heads, double hidden_dropout,
                                           double attention_dropout, double eps, int64_t seed,
                                           const Tensor& update, const Tensor& grad_items,
                                           const std::optional<Tensor>& rows) {
  const Checker check(kOp, items);
  const EncodeOptions options =
      check_options(check, hidden_dropout, attention_dropout, eps, seed, update);
  const Inputs inputs =
      check_inputs(check, items, positions, offsets, weights, heads, options, rows);
  Call call("encode_backward_add", inputs.like());
  return backward(check, inputs, grad_h, saved, &grad_items, call);
}

namespace {

MCLREC_LIBRARY_IMPL(m) { m.impl("encode_backward_add", TORCH_BOX(&encode_backward_add_op)); }

#endif

}  // namespace
}  // namespace mclrec
