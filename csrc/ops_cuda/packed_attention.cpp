// CUDA registration of packed_attention and packed_attention_backward: checks, allocation, the
// launches. Offsets lie on the device and are not read here, which would wait for it; the kernels
// clamp them to the tokens there are.
#include <array>
#include <limits>
#include <optional>
#include <tuple>

#include "../cuda/packed_attention_cuda.h"
#include "common.h"

namespace mclrec {
namespace {

using Gradients = std::tuple<Tensor, Tensor, Tensor>;

// The arguments both ops share, checked, contiguous and aligned.
struct Inputs {
  Tensor query, key, value;       // [T, H, d]
  Tensor offsets;                 // [S + 1] int32
  std::optional<Tensor> visible;  // [T] bool
  cuda::Dropout dropout;

  bool empty() const { return offsets.size(0) == 1 || query.size(0) == 0; }

  // Numbers like the queries: [T, H, d] or, with `width` 1, one a token and head.
  Tensor tokens(int64_t width) const {
    return allocate(query, {query.size(0), query.size(1), width});
  }
  // The same, but 0 where no sequence is.
  Tensor zero_tokens() const { return zeros(query, {query.size(0), query.size(1), query.size(2)}); }

  template <class T>
  cuda::Attention<T> attention(const Tensor& out, const Tensor& lse) const {
    return {read_pointer<int32_t>(offsets),
            query.size(0),
            offsets.size(0) - 1,
            static_cast<int>(query.size(1)),
            static_cast<int>(query.size(2)),
            read_pointer<T>(query),
            read_pointer<T>(key),
            read_pointer<T>(value),
            query.size(1) * query.size(2),
            visible ? read_pointer<bool>(*visible) : nullptr,
            nullptr,
            dropout,
            write_pointer<T>(out),
            write_pointer<T>(lse)};
  }
};

cuda::Dropout check_dropout(const char* op, double p, int64_t seed, int64_t update, int64_t layer) {
  check(p >= 0.0 && p < 1.0, op, ": dropout must be in [0, 1), got ", p);
  check(update >= 0 && update <= std::numeric_limits<uint32_t>::max(), op,
        ": update must be in 0..2^32-1, got ", update);
  check(layer >= 0 && layer < 256, op, ": layer must be in 0..255, got ", layer);
  return cuda::dropout_site(p, static_cast<uint64_t>(seed), static_cast<uint32_t>(update),
                            static_cast<int>(layer), kSiteAttention);
}

Inputs check_inputs(const char* op, const Tensor& query, const Tensor& key, const Tensor& value,
                    const Tensor& offsets, const std::optional<Tensor>& visible,
                    const cuda::Dropout& dropout) {
  check_floating(op, "query", query);
  const ScalarType dtype = query.scalar_type();
  check_device_tensor(op, "query", query, dtype, {-1, -1, -1}, query);
  const int64_t tokens = query.size(0), heads = query.size(1), width = query.size(2);
  check(heads >= 1 && width >= 1, op, ": query must have at least one head of one element");
  check(width <= cuda::kWidestHead, op, ": on CUDA a head has at most ", cuda::kWidestHead,
        " elements, got ", width, " (use backend=\"torch\")");
  check_device_tensor(op, "key", key, dtype, {tokens, heads, width}, query);
  check_device_tensor(op, "value", value, dtype, {tokens, heads, width}, query);
  check_device_tensor(op, "offsets", offsets, ScalarType::Int, {-1}, query);
  check(offsets.size(0) >= 1, op, ": offsets must hold at least one number");
  check(tokens < std::numeric_limits<int32_t>::max() / 2 &&
            offsets.size(0) - 1 <= std::numeric_limits<int32_t>::max() / heads,
        op, ": too many tokens or sequences");
  if (visible) check_device_tensor(op, "visible", *visible, ScalarType::Bool, {tokens}, query);
  Inputs inputs{aligned(query),   aligned(key), aligned(value),
                aligned(offsets), std::nullopt, dropout};
  if (visible) inputs.visible = aligned(*visible);
  return inputs;
}

template <class T>
Tensor forward(const Inputs& inputs) {
  const Tensor out = inputs.zero_tokens();
  if (inputs.empty()) return out;
  const DeviceScope scope(inputs.query);
  cuda::packed_attention(inputs.attention<T>(out, inputs.tokens(1)), scope.stream());
  check_launches("packed_attention");
  return out;
}

Tensor packed_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                        const Tensor& offsets, const std::optional<Tensor>& visible, double dropout,
                        int64_t seed, int64_t update, int64_t layer) {
  const char* op = "packed_attention";
  const Inputs inputs = check_inputs(op, query, key, value, offsets, visible,
                                     check_dropout(op, dropout, seed, update, layer));
  const DeviceScope scope(inputs.query);
  return query.scalar_type() == ScalarType::Double ? forward<double>(inputs)
                                                   : forward<float>(inputs);
}

template <class T>
Gradients backward(const Inputs& inputs, const Tensor& grad) {
  const std::array<Tensor, 3> grads{inputs.zero_tokens(), inputs.zero_tokens(),
                                    inputs.zero_tokens()};
  if (!inputs.empty()) {
    const DeviceScope scope(inputs.query);
    // Only the inputs were kept: the context and the log-sum-exps are made again.
    const Tensor out = inputs.tokens(inputs.query.size(2)), lse = inputs.tokens(1);
    const Tensor delta = inputs.tokens(1);
    const cuda::Attention<T> again = inputs.attention<T>(out, lse);
    cuda::packed_attention(again, scope.stream());
    cuda::packed_attention_backward(
        cuda::AttentionBackward<T>{again, read_pointer<T>(grad), write_pointer<T>(delta),
                                   write_pointer<T>(grads[0]), write_pointer<T>(grads[1]),
                                   write_pointer<T>(grads[2]), again.stride},
        scope.stream());
    check_launches("packed_attention_backward");
  }
  return {grads[0], grads[1], grads[2]};
}

Gradients packed_attention_backward(const Tensor& grad, const Tensor& query, const Tensor& key,
                                    const Tensor& value, const Tensor& offsets,
                                    const std::optional<Tensor>& visible, double dropout,
                                    int64_t seed, int64_t update, int64_t layer) {
  const char* op = "packed_attention_backward";
  const Inputs inputs = check_inputs(op, query, key, value, offsets, visible,
                                     check_dropout(op, dropout, seed, update, layer));
  const ScalarType dtype = query.scalar_type();
  check_device_tensor(op, "grad", grad, dtype, {query.size(0), query.size(1), query.size(2)},
                      query);
  const DeviceScope scope(inputs.query);
  const Tensor whole = aligned(grad);
  return dtype == ScalarType::Double ? backward<double>(inputs, whole)
                                     : backward<float>(inputs, whole);
}

MCLREC_CUDA_LIBRARY_IMPL(m) {
  m.impl("packed_attention", TORCH_BOX(&packed_attention));
  m.impl("packed_attention_backward", TORCH_BOX(&packed_attention_backward));
}

}  // namespace
}  // namespace mclrec
