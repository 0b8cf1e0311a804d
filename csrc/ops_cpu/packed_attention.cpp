// CPU registration of packed_attention and packed_attention_backward: checks, allocation, the call.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <limits>
#include <optional>
#include <tuple>

#include "../cpu/packed_attention_cpu.h"
#include "checks.h"

namespace mclrec {
namespace {

constexpr const char* kOp = "packed_attention";
using Gradients = std::tuple<Tensor, Tensor, Tensor>;

struct Options {
  double dropout;
  int64_t seed;
  int64_t update;
  int64_t layer;
};

// The inputs, contiguous and checked.
struct Inputs {
  Tensor query;                   // [T, H, d]
  Tensor key;                     // [T, H, d]
  Tensor value;                   // [T, H, d]
  Tensor offsets;                 // [S + 1] int32
  std::optional<Tensor> visible;  // [T] bool
  Options options;

  template <class T>
  PackedAttention<T> attention() const {
    return {read_pointer<T>(query),
            read_pointer<T>(key),
            read_pointer<T>(value),
            read_pointer<int32_t>(offsets),
            visible ? static_cast<const uint8_t*>(visible->const_data_ptr()) : nullptr,
            offsets.size(0) - 1,
            query.size(0),
            query.size(1),
            query.size(2),
            {options.dropout, static_cast<uint64_t>(options.seed),
             static_cast<uint32_t>(options.update)},
            static_cast<uint32_t>(options.layer)};
  }
};

void check_options(const Options& options) {
  check(options.dropout >= 0.0 && options.dropout < 1.0, kOp, ": dropout must be in [0, 1), got ",
        options.dropout);
  check(options.update >= 0 && options.update <= std::numeric_limits<uint32_t>::max(), kOp,
        ": update must be in 0..2^32-1, got ", options.update);
  check(options.layer >= 0 && options.layer < 256, kOp, ": layer must be in 0..255, got ",
        options.layer);
}

Inputs check_inputs(const Tensor& query, const Tensor& key, const Tensor& value,
                    const Tensor& offsets, const std::optional<Tensor>& visible,
                    const Options& options) {
  check_floating(kOp, "query", query);
  const ScalarType dtype = query.scalar_type();
  check_tensor(kOp, "query", query, dtype, {-1, -1, -1});
  const int64_t tokens = query.size(0), heads = query.size(1), size = query.size(2);
  check(heads >= 1 && size >= 1, kOp, ": query must have at least one head of one element");
  check_tensor(kOp, "key", key, dtype, {tokens, heads, size});
  check_tensor(kOp, "value", value, dtype, {tokens, heads, size});
  check_tensor(kOp, "offsets", offsets, ScalarType::Int, {-1});
  if (visible) check_tensor(kOp, "visible", *visible, ScalarType::Bool, {tokens});
  check_options(options);
  Inputs inputs{torch::stable::contiguous(query),
                torch::stable::contiguous(key),
                torch::stable::contiguous(value),
                torch::stable::contiguous(offsets),
                std::nullopt,
                options};
  if (visible) inputs.visible = torch::stable::contiguous(*visible);
  const int64_t count = offsets.size(0);
  check(count >= 1, kOp, ": offsets must hold at least one number");
  const int32_t* offset = read_pointer<int32_t>(inputs.offsets);
  check(offset[0] == 0, kOp, ": offsets must start at 0, got ", offset[0]);
  for (int64_t s = 0; s + 1 < count; ++s) {
    check(offset[s + 1] >= offset[s], kOp, ": offsets must ascend, got ", offset[s], " and ",
          offset[s + 1], " around sequence ", s);
  }
  check(offset[count - 1] <= tokens, kOp, ": offsets end at ", offset[count - 1],
        ", but there are ", tokens, " tokens");
  return inputs;
}

Tensor dense_like(const Tensor& x) {
  return torch::stable::new_empty(x, {x.size(0), x.size(1), x.size(2)});
}

Tensor packed_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                        const Tensor& offsets, const std::optional<Tensor>& visible, double dropout,
                        int64_t seed, int64_t update, int64_t layer) {
  const Inputs inputs =
      check_inputs(query, key, value, offsets, visible, {dropout, seed, update, layer});
  Tensor context = dense_like(query);
  if (query.scalar_type() == ScalarType::Double) {
    packed_attention_forward<double>(inputs.attention<double>(), write_pointer<double>(context));
  } else {
    packed_attention_forward<float>(inputs.attention<float>(), write_pointer<float>(context));
  }
  return context;
}

template <class T>
Gradients backward(const Inputs& inputs, const Tensor& grad) {
  Gradients gradients{dense_like(grad), dense_like(grad), dense_like(grad)};
  packed_attention_backward<T>(
      inputs.attention<T>(), read_pointer<T>(grad), write_pointer<T>(std::get<0>(gradients)),
      write_pointer<T>(std::get<1>(gradients)), write_pointer<T>(std::get<2>(gradients)));
  return gradients;
}

Gradients packed_attention_backward_op(const Tensor& grad, const Tensor& query, const Tensor& key,
                                       const Tensor& value, const Tensor& offsets,
                                       const std::optional<Tensor>& visible, double dropout,
                                       int64_t seed, int64_t update, int64_t layer) {
  const Inputs inputs =
      check_inputs(query, key, value, offsets, visible, {dropout, seed, update, layer});
  const ScalarType dtype = query.scalar_type();
  check_tensor(kOp, "grad", grad, dtype, {query.size(0), query.size(1), query.size(2)});
  const Tensor whole = torch::stable::contiguous(grad);
  return dtype == ScalarType::Double ? backward<double>(inputs, whole)
                                     : backward<float>(inputs, whole);
}

STABLE_TORCH_LIBRARY_IMPL(mclrec_fast, CPU, m) {
  m.impl("packed_attention", TORCH_BOX(&packed_attention));
  m.impl("packed_attention_backward", TORCH_BOX(&packed_attention_backward_op));
}

}  // namespace
}  // namespace mclrec
