// CUDA registration of encode and its backward pass, each also with the update's number on the
// device (encode_counted): checks, allocation, the launches. Values on the device (items,
// positions, offsets, that number) are not checked, which would wait for it; the kernels clamp
// them, and take the number's low 32 bits.
#include <array>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "../cuda/encode_cuda.h"
#include "../cuda/last_token_cuda.h"
#include "../cuda/norm_cuda.h"
#include "../cuda/packed_attention_cuda.h"
#include "common.h"

namespace mclrec {
namespace {

// The number of the update: given, or on the device.
struct Update {
  uint32_t number;
  const int64_t* counter;

  Update(const char* op, int64_t given) : number(static_cast<uint32_t>(given)), counter(nullptr) {
    check(given >= 0 && given <= std::numeric_limits<uint32_t>::max(), op,
          ": update must be in 0..2^32-1, got ", given);
  }
  Update(const char* op, const Tensor& on_device, const Tensor& like)
      : number(0), counter(read_pointer<int64_t>(on_device)) {
    check_device_tensor(op, "update", on_device, ScalarType::Long, {}, like);
  }
};

// The arguments of all ops, checked, contiguous and aligned.
struct Arguments {
  Tensor items, positions, offsets;  // [T], [T], [S + 1]
  std::vector<Tensor> weights;
  cuda::EncodeShape shape{};

  Arguments(const char* op, const Tensor& items_in, const Tensor& positions_in,
            const Tensor& offsets_in, const std::vector<Tensor>& weights_in, int64_t heads,
            double hidden_dropout, double attention_dropout, double eps, int64_t seed,
            const Update& update)
      : items(aligned(items_in)), positions(aligned(positions_in)), offsets(aligned(offsets_in)) {
    const int64_t layers =
        (static_cast<int64_t>(weights_in.size()) - cuda::kEmbeddingWeights) / cuda::kLayerWeights;
    check(layers >= 1 && static_cast<int64_t>(weights_in.size()) ==
                             cuda::kEmbeddingWeights + layers * cuda::kLayerWeights,
          op, ": weights must be 4 and 16 a layer, got ", weights_in.size());
    for (const Tensor& weight : weights_in) weights.push_back(aligned(weight));
    check_packed(op);
    check(heads >= 1, op, ": heads must be at least 1, got ", heads);
    check_floating(op, "item_embedding", weights[0]);
    check(weights[0].dim() == 2 && weights[1].dim() == 2, op, ": the embeddings must be matrices");
    const int64_t depth = weights[0].size(1);
    check(depth >= 1 && depth <= cuda::kWidestNorm && depth % heads == 0 &&
              depth / heads <= cuda::kWidestHead,
          op, ": on CUDA the hidden size must be 1..", cuda::kWidestNorm,
          ", a multiple of the heads, each at most ", cuda::kWidestHead, "; got ", depth, " with ",
          heads, " heads (use backend=\"torch\")");
    const int64_t inner = weights[cuda::kEmbeddingWeights + 10].size(0);
    check_weights(op, layers, depth, inner);
    check(hidden_dropout >= 0.0 && hidden_dropout < 1.0 && attention_dropout >= 0.0 &&
              attention_dropout < 1.0,
          op, ": dropout must be in [0, 1), got ", hidden_dropout, " and ", attention_dropout);
    shape = {{read_pointer<int32_t>(items), read_pointer<int32_t>(positions),
              read_pointer<int32_t>(offsets), items.size(0), offsets.size(0) - 1},
             weights[0].size(0),
             weights[1].size(0),
             static_cast<int>(depth),
             static_cast<int>(inner),
             static_cast<int>(heads),
             static_cast<int>(layers),
             hidden_dropout,
             attention_dropout,
             eps,
             static_cast<uint64_t>(seed),
             update.number,
             update.counter,
             precision()};
  }

  template <class T>
  std::vector<const T*> weight_pointers() const {
    std::vector<const T*> pointers;
    for (const Tensor& weight : weights) pointers.push_back(read_pointer<T>(weight));
    return pointers;
  }

 private:
  void check_packed(const char* op) const {
    check_device_tensor(op, "items", items, ScalarType::Int, {-1}, weights[0]);
    check_device_tensor(op, "positions", positions, ScalarType::Int, {items.size(0)}, weights[0]);
    check_device_tensor(op, "offsets", offsets, ScalarType::Int, {-1}, weights[0]);
    check(offsets.size(0) >= 1, op, ": offsets must have at least one entry");
    check(offsets.size(0) == 1 || items.size(0) > 0, op, ": there are sequences but no tokens");
    check(items.size(0) < std::numeric_limits<int32_t>::max() / 2, op, ": too many tokens");
  }

  void check_weights(const char* op, int64_t layers, int64_t depth, int64_t inner) const {
    const Tensor& like = weights[0];
    const ScalarType dtype = like.scalar_type();
    const auto matrix = [&](size_t index, const char* name, int64_t rows, int64_t columns) {
      check_device_tensor(op, name, weights[index], dtype, {rows, columns}, like);
    };
    const auto vector = [&](size_t index, const char* name, int64_t count) {
      check_device_tensor(op, name, weights[index], dtype, {count}, like);
    };
    check(like.size(0) >= 1 && weights[1].size(0) >= 1 && inner >= 1, op, ": an empty weight");
    matrix(1, "position_embedding", weights[1].size(0), depth);
    vector(2, "embedding norm", depth);
    vector(3, "embedding norm bias", depth);
    for (int64_t layer = 0; layer < layers; ++layer) {
      const size_t first =
          static_cast<size_t>(cuda::kEmbeddingWeights + layer * cuda::kLayerWeights);
      const char* names[] = {"query", "key", "value", "output"};
      for (size_t i = 0; i < 4; ++i) {
        matrix(first + 2 * i, names[i], depth, depth);
        vector(first + 2 * i + 1, names[i], depth);
      }
      vector(first + 8, "attention norm", depth);
      vector(first + 9, "attention norm bias", depth);
      matrix(first + 10, "inner", inner, depth);
      vector(first + 11, "inner bias", inner);
      matrix(first + 12, "outer", depth, inner);
      vector(first + 13, "outer bias", depth);
      vector(first + 14, "feed-forward norm", depth);
      vector(first + 15, "feed-forward norm bias", depth);
    }
  }
};

template <class T>
std::tuple<Tensor, Tensor> run_forward(const Arguments& arguments, bool save) {
  const cuda::EncodeShape& shape = arguments.shape;
  const Tensor& like = arguments.weights[0];
  const DeviceScope scope(like);
  const Tensor h = allocate(like, {shape.packed.sequences, shape.depth});
  const Tensor workspace = allocate(like, {cuda::encode_workspace<T>(shape)});
  if (shape.packed.sequences > 0) {
    const std::vector<const T*> weights = arguments.weight_pointers<T>();
    cuda::encode(
        cuda::Encode<T>{shape, weights.data(), write_pointer<T>(workspace), write_pointer<T>(h)},
        scope.stream());
    check_launches("encode");
  }
  return {h, save ? workspace : allocate(like, {0})};
}

std::tuple<Tensor, Tensor> run_forward(const Arguments& arguments, bool save) {
  return arguments.weights[0].scalar_type() == ScalarType::Float
             ? run_forward<float>(arguments, save)
             : run_forward<double>(arguments, save);
}

// (h [S, D], what the backward pass needs [*]; [0] unless `save`).
std::tuple<Tensor, Tensor> encode(const Tensor& items, const Tensor& positions,
                                  const Tensor& offsets, const std::vector<Tensor>& weights,
                                  int64_t heads, double hidden_dropout, double attention_dropout,
                                  double eps, int64_t seed, int64_t update, bool save) {
  const char* op = "encode";
  return run_forward(Arguments(op, items, positions, offsets, weights, heads, hidden_dropout,
                               attention_dropout, eps, seed, Update(op, update)),
                     save);
}

// The same with the update's number on the device, int64 [].
std::tuple<Tensor, Tensor> encode_counted(const Tensor& items, const Tensor& positions,
                                          const Tensor& offsets, const std::vector<Tensor>& weights,
                                          int64_t heads, double hidden_dropout,
                                          double attention_dropout, double eps, int64_t seed,
                                          const Tensor& update, bool save) {
  const char* op = "encode_counted";
  return run_forward(Arguments(op, items, positions, offsets, weights, heads, hidden_dropout,
                               attention_dropout, eps, seed, Update(op, update, items)),
                     save);
}

// Tokens sorted by item, stably: (sorted keys int32 [T], order int64 [T]).
std::tuple<Tensor, Tensor> sorted_tokens(const Arguments& arguments, void* stream) {
  const cuda::EncodeShape& shape = arguments.shape;
  const Tensor keys = allocate(arguments.items, {shape.packed.capacity});
  cuda::token_keys(shape.packed, shape.classes, write_pointer<int32_t>(keys), stream);
  // sort.stable(Tensor self, *, bool? stable, int dim, bool descending) -> (values, indices)
  std::array<StableIValue, 4> stack{
      torch::stable::detail::from(keys), torch::stable::detail::from(std::optional<bool>(true)),
      torch::stable::detail::from(static_cast<int64_t>(0)), torch::stable::detail::from(false)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  return {torch::stable::detail::to<Tensor>(stack[0]), torch::stable::detail::to<Tensor>(stack[1])};
}

template <class T>
std::vector<Tensor> run_backward(const Tensor& grad_h_in, const Arguments& arguments,
                                 const Tensor& saved) {
  const cuda::EncodeShape& shape = arguments.shape;
  const Tensor& like = arguments.weights[0];
  check_device_tensor("encode_backward", "grad_h", grad_h_in, like.scalar_type(),
                      {shape.packed.sequences, shape.depth}, like);
  check_device_tensor("encode_backward", "saved", saved, like.scalar_type(),
                      {cuda::encode_workspace<T>(shape)}, like);
  const DeviceScope scope(like);
  const Tensor grad_h = aligned(grad_h_in);
  std::vector<Tensor> grads;
  std::vector<T*> grad_pointers;
  for (size_t i = 0; i < arguments.weights.size(); ++i) {
    const Tensor& weight = arguments.weights[i];
    const bool empty = shape.packed.sequences == 0;
    if (weight.dim() == 2) {
      grads.push_back(i == 0 || empty ? zeros(weight, {weight.size(0), weight.size(1)})
                                      : allocate(weight, {weight.size(0), weight.size(1)}));
    } else {
      // The last layer's key bias has no gradient: it shifts all scores of a softmax alike.
      const bool last_key_bias = i + cuda::kLayerWeights == arguments.weights.size() + 3;
      grads.push_back(last_key_bias || empty ? zeros(weight, {weight.size(0)})
                                             : allocate(weight, {weight.size(0)}));
    }
    grad_pointers.push_back(write_pointer<T>(grads.back()));
  }
  if (shape.packed.sequences == 0) return grads;

  const Tensor scratch = allocate(like, {cuda::encode_backward_scratch<T>(shape)});
  Tensor keys, order;
  const bool sorted = shape.packed.capacity > cuda::kItemScanTokens;
  if (sorted) std::tie(keys, order) = sorted_tokens(arguments, scope.stream());
  const std::vector<const T*> weights = arguments.weight_pointers<T>();
  cuda::encode_backward(cuda::EncodeBackward<T>{shape, weights.data(), write_pointer<T>(saved),
                                                read_pointer<T>(grad_h), write_pointer<T>(scratch),
                                                sorted ? read_pointer<int32_t>(keys) : nullptr,
                                                sorted ? read_pointer<int64_t>(order) : nullptr,
                                                grad_pointers.data()},
                        scope.stream());
  check_launches("encode_backward");
  return grads;
}

std::vector<Tensor> run_backward(const Tensor& grad_h, const Arguments& arguments,
                                 const Tensor& saved) {
  return arguments.weights[0].scalar_type() == ScalarType::Float
             ? run_backward<float>(grad_h, arguments, saved)
             : run_backward<double>(grad_h, arguments, saved);
}

// One gradient a weight; the item embedding's row 0 gets none.
std::vector<Tensor> encode_backward(const Tensor& grad_h, const Tensor& items,
                                    const Tensor& positions, const Tensor& offsets,
                                    const std::vector<Tensor>& weights, const Tensor& saved,
                                    int64_t heads, double hidden_dropout, double attention_dropout,
                                    double eps, int64_t seed, int64_t update) {
  const char* op = "encode_backward";
  return run_backward(grad_h,
                      Arguments(op, items, positions, offsets, weights, heads, hidden_dropout,
                                attention_dropout, eps, seed, Update(op, update)),
                      saved);
}

std::vector<Tensor> encode_counted_backward(const Tensor& grad_h, const Tensor& items,
                                            const Tensor& positions, const Tensor& offsets,
                                            const std::vector<Tensor>& weights, const Tensor& saved,
                                            int64_t heads, double hidden_dropout,
                                            double attention_dropout, double eps, int64_t seed,
                                            const Tensor& update) {
  const char* op = "encode_counted_backward";
  return run_backward(grad_h,
                      Arguments(op, items, positions, offsets, weights, heads, hidden_dropout,
                                attention_dropout, eps, seed, Update(op, update, items)),
                      saved);
}

MCLREC_CUDA_LIBRARY_IMPL(m) {
  m.impl("encode", TORCH_BOX(&encode));
  m.impl("encode_backward", TORCH_BOX(&encode_backward));
  m.impl("encode_counted", TORCH_BOX(&encode_counted));
  m.impl("encode_counted_backward", TORCH_BOX(&encode_counted_backward));
}

}  // namespace
}  // namespace mclrec
