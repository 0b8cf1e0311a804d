// CPU registration of encode, encode_backward and encode_backward_add: checks, allocation, the
// call.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <limits>
#include <tuple>
#include <vector>

#include "../cpu/encode_cpu.h"
#include "checks.h"
#include "pooled.h"

namespace mclrec {
namespace {

constexpr const char* kOp = "encode";

struct Inputs {
  Tensor items;      // [capacity] int32
  Tensor positions;  // [capacity] int32
  Tensor offsets;    // [S + 1] int32
  std::vector<Tensor> weights;
  EncodeSizes sizes;
  EncodeDropout dropout;

  EncodeBatch batch() const {
    return {read_pointer<int32_t>(items), read_pointer<int32_t>(positions),
            read_pointer<int32_t>(offsets)};
  }
  template <class T>
  std::vector<const T*> weight_pointers() const {
    std::vector<const T*> pointers;
    for (const Tensor& weight : weights) pointers.push_back(read_pointer<T>(weight));
    return pointers;
  }
};

std::vector<Tensor> check_weights(const std::vector<Tensor>& weights, EncodeSizes& sizes) {
  const int64_t count = static_cast<int64_t>(weights.size());
  check(count >= kFirstLayerWeight + kLayerWeights &&
            (count - kFirstLayerWeight) % kLayerWeights == 0,
        kOp, ": weights must be ", kFirstLayerWeight, " + ", kLayerWeights,
        " per layer, at least one layer, got ", count);
  sizes.layers = (count - kFirstLayerWeight) / kLayerWeights;
  check_floating(kOp, "weights[0]", weights[0]);
  const ScalarType dtype = weights[0].scalar_type();
  check_tensor(kOp, "item_embedding", weights[kItemEmbedding], dtype, {-1, -1});
  sizes.items = weights[kItemEmbedding].size(0);
  sizes.hidden = weights[kItemEmbedding].size(1);
  check(sizes.hidden >= 1, kOp, ": the hidden size must be at least 1");
  const int64_t d = sizes.hidden;
  check_tensor(kOp, "position_embedding", weights[kPositionEmbedding], dtype, {-1, d});
  sizes.positions = weights[kPositionEmbedding].size(0);
  check_tensor(kOp, "embedding norm weight", weights[kEmbeddingNorm], dtype, {d});
  check_tensor(kOp, "embedding norm bias", weights[kEmbeddingNormBias], dtype, {d});
  const Tensor& inner = weights[kFirstLayerWeight + kInner];
  check_tensor(kOp, "inner weight", inner, dtype, {-1, d});
  sizes.inner = inner.size(0);
  check(sizes.inner >= 1, kOp, ": the inner size must be at least 1");
  std::vector<Tensor> contiguous;
  for (int64_t i = 0; i < count; ++i) {
    if (i >= kFirstLayerWeight) {
      const int64_t l = (i - kFirstLayerWeight) / kLayerWeights;
      const int64_t kind = (i - kFirstLayerWeight) % kLayerWeights;
      const std::string name = "layer " + std::to_string(l) + ", weight " + std::to_string(kind);
      if (kind == kQuery || kind == kKey || kind == kValue || kind == kOutput) {
        check_tensor(kOp, name.c_str(), weights[i], dtype, {d, d});
      } else if (kind == kInner) {
        check_tensor(kOp, name.c_str(), weights[i], dtype, {sizes.inner, d});
      } else if (kind == kOuter) {
        check_tensor(kOp, name.c_str(), weights[i], dtype, {d, sizes.inner});
      } else {
        check_tensor(kOp, name.c_str(), weights[i], dtype, {kind == kInnerBias ? sizes.inner : d});
      }
    }
    contiguous.push_back(torch::stable::contiguous(weights[i]));
  }
  return contiguous;
}

Dropout check_dropout(const char* name, double p, int64_t seed, int64_t update) {
  check(p >= 0.0 && p < 1.0, kOp, ": ", name, " must be in [0, 1), got ", p);
  return {p, static_cast<uint64_t>(seed), static_cast<uint32_t>(update)};
}

void check_batch(const Inputs& inputs) {
  const EncodeSizes& sizes = inputs.sizes;
  const EncodeBatch batch = inputs.batch();
  check(batch.offsets[0] == 0, kOp, ": offsets must start at 0, got ", batch.offsets[0]);
  for (int64_t s = 0; s < sizes.sequences; ++s) {
    check(batch.offsets[s + 1] > batch.offsets[s], kOp,
          ": offsets must ascend (no sequence is empty), got ", batch.offsets[s], " and ",
          batch.offsets[s + 1], " around sequence ", s);
  }
  check(sizes.tokens <= sizes.capacity, kOp, ": offsets end at ", sizes.tokens, ", but there are ",
        sizes.capacity, " tokens");
  // One comparison a token finds out whether any is bad; only then which one.
  uint32_t bad = 0;
  for (int64_t t = 0; t < sizes.tokens; ++t) {
    bad |= static_cast<uint32_t>(static_cast<uint32_t>(batch.items[t]) >= sizes.items) |
           static_cast<uint32_t>(static_cast<uint32_t>(batch.positions[t]) >= sizes.positions);
  }
  for (int64_t t = 0; bad != 0 && t < sizes.tokens; ++t) {
    check(batch.items[t] >= 0 && batch.items[t] < sizes.items, kOp, ": items[", t,
          "] must be in 0..", sizes.items - 1, ", got ", batch.items[t]);
    check(batch.positions[t] >= 0 && batch.positions[t] < sizes.positions, kOp, ": positions[", t,
          "] must be in 0..", sizes.positions - 1, ", got ", batch.positions[t]);
  }
}

Inputs check_inputs(const Tensor& items, const Tensor& positions, const Tensor& offsets,
                    const std::vector<Tensor>& weights, int64_t heads, double hidden_dropout,
                    double attention_dropout, double eps, int64_t seed, int64_t update) {
  check_tensor(kOp, "items", items, ScalarType::Int, {-1});
  check_tensor(kOp, "positions", positions, ScalarType::Int, {items.size(0)});
  check_tensor(kOp, "offsets", offsets, ScalarType::Int, {-1});
  check(offsets.size(0) >= 1, kOp, ": offsets must hold at least one number");
  check(update >= 0 && update <= std::numeric_limits<uint32_t>::max(), kOp,
        ": update must be in 0..2^32-1, got ", update);
  check(eps >= 0.0, kOp, ": eps must be at least 0, got ", eps);
  EncodeSizes sizes{};
  Inputs inputs{torch::stable::contiguous(items),
                torch::stable::contiguous(positions),
                torch::stable::contiguous(offsets),
                check_weights(weights, sizes),
                {},
                {check_dropout("hidden_dropout", hidden_dropout, seed, update),
                 check_dropout("attention_dropout", attention_dropout, seed, update)}};
  check(heads >= 1 && sizes.hidden % heads == 0, kOp, ": heads must divide the hidden size ",
        sizes.hidden, ", got ", heads);
  sizes.heads = heads;
  sizes.sequences = offsets.size(0) - 1;
  sizes.capacity = items.size(0);
  sizes.tokens = inputs.batch().offsets[sizes.sequences];
  inputs.sizes = sizes;
  check_batch(inputs);
  return inputs;
}

template <class T>
std::tuple<Tensor, Tensor> forward(const Inputs& inputs, double eps, bool save) {
  const Tensor& like = inputs.weights[0];
  Tensor h = torch::stable::new_empty(like, {inputs.sizes.sequences, inputs.sizes.hidden});
  Tensor saved = pooled_empty<T>({save ? encode_saved_size(inputs.sizes) : 0}, like);
  encode_forward<T>(inputs.sizes, inputs.batch(), inputs.weight_pointers<T>().data(),
                    inputs.dropout, static_cast<T>(eps), write_pointer<T>(h),
                    save ? write_pointer<T>(saved) : nullptr);
  return {h, saved};
}

std::tuple<Tensor, Tensor> encode(const Tensor& items, const Tensor& positions,
                                  const Tensor& offsets, const std::vector<Tensor>& weights,
                                  int64_t heads, double hidden_dropout, double attention_dropout,
                                  double eps, int64_t seed, int64_t update, bool save) {
  const Inputs inputs = check_inputs(items, positions, offsets, weights, heads, hidden_dropout,
                                     attention_dropout, eps, seed, update);
  return weights[0].scalar_type() == ScalarType::Double ? forward<double>(inputs, eps, save)
                                                        : forward<float>(inputs, eps, save);
}

// The gradients of all weights; where `grad_items` is given, that of the item embedding is added to
// it instead, and the others are returned.
template <class T>
std::vector<Tensor> backward(const Inputs& inputs, double eps, const Tensor& grad_h,
                             const Tensor& saved, const Tensor* grad_items) {
  std::vector<Tensor> gradients;
  std::vector<T*> pointers;
  for (const Tensor& weight : inputs.weights) {
    if (grad_items != nullptr && pointers.empty()) {
      pointers.push_back(write_pointer<T>(*grad_items));
      continue;
    }
    std::vector<int64_t> shape;
    for (int64_t d = 0; d < weight.dim(); ++d) shape.push_back(weight.size(d));
    gradients.push_back(torch::stable::new_empty(weight, shape));
    pointers.push_back(write_pointer<T>(gradients.back()));
  }
  encode_backward<T>(inputs.sizes, inputs.batch(), inputs.weight_pointers<T>().data(),
                     inputs.dropout, static_cast<T>(eps), read_pointer<T>(grad_h),
                     read_pointer<T>(saved), pointers.data(), grad_items != nullptr);
  return gradients;
}

std::vector<Tensor> check_and_go_backward(const Tensor& grad_h, const Tensor& items,
                                          const Tensor& positions, const Tensor& offsets,
                                          const std::vector<Tensor>& weights, const Tensor& saved,
                                          int64_t heads, double hidden_dropout,
                                          double attention_dropout, double eps, int64_t seed,
                                          int64_t update, const Tensor* grad_items) {
  const Inputs inputs = check_inputs(items, positions, offsets, weights, heads, hidden_dropout,
                                     attention_dropout, eps, seed, update);
  const ScalarType dtype = weights[0].scalar_type();
  check_tensor(kOp, "grad_h", grad_h, dtype, {inputs.sizes.sequences, inputs.sizes.hidden});
  check_tensor(kOp, "saved", saved, dtype, {encode_saved_size(inputs.sizes)});
  const Tensor grad = torch::stable::contiguous(grad_h), kept = torch::stable::contiguous(saved);
  if (grad_items != nullptr) {
    check_tensor(kOp, "grad_items", *grad_items, dtype, {inputs.sizes.items, inputs.sizes.hidden});
    check(grad_items->is_contiguous(), kOp, ": grad_items must be contiguous");
  }
  return dtype == ScalarType::Double ? backward<double>(inputs, eps, grad, kept, grad_items)
                                     : backward<float>(inputs, eps, grad, kept, grad_items);
}

std::vector<Tensor> encode_backward_op(const Tensor& grad_h, const Tensor& items,
                                       const Tensor& positions, const Tensor& offsets,
                                       const std::vector<Tensor>& weights, const Tensor& saved,
                                       int64_t heads, double hidden_dropout,
                                       double attention_dropout, double eps, int64_t seed,
                                       int64_t update) {
  return check_and_go_backward(grad_h, items, positions, offsets, weights, saved, heads,
                               hidden_dropout, attention_dropout, eps, seed, update, nullptr);
}

std::vector<Tensor> encode_backward_add(const Tensor& grad_h, const Tensor& items,
                                        const Tensor& positions, const Tensor& offsets,
                                        const std::vector<Tensor>& weights, const Tensor& saved,
                                        int64_t heads, double hidden_dropout,
                                        double attention_dropout, double eps, int64_t seed,
                                        int64_t update, const Tensor& grad_items) {
  return check_and_go_backward(grad_h, items, positions, offsets, weights, saved, heads,
                               hidden_dropout, attention_dropout, eps, seed, update, &grad_items);
}

STABLE_TORCH_LIBRARY_IMPL(mclrec_fast, CPU, m) {
  m.impl("encode", TORCH_BOX(&encode));
  m.impl("encode_backward", TORCH_BOX(&encode_backward_op));
  m.impl("encode_backward_add", TORCH_BOX(&encode_backward_add));
}

}  // namespace
}  // namespace mclrec
