// packed_attention for torch, on the CPU and on CUDA: checks, allocation, the calls. Offsets and
// the update's number are not read here on a GPU: the kernels clamp the offsets to the tokens there
// are, and take the number's low 32 bits.
#include <optional>
#include <tuple>

#include "checks.h"
#include "device.h"
#ifdef MCLREC_CUDA
#include "../cuda/packed_attention_cuda.h"
#else
#include "../cpu/packed_attention_cpu.h"
#endif

namespace mclrec {
namespace {

#ifdef MCLREC_CUDA
using cuda::packed_attention_backward;
using cuda::packed_attention_forward;
constexpr int64_t kWidestHead = cuda::kWidestHead;

// The kernels write no token outside the sequences.
Tensor tokens_like(const Tensor& x) { return zeros(x, {x.size(0), x.size(1), x.size(2)}); }
#else
template <class T>
void packed_attention_forward(const PackedAttentionParams<T>& params, T* context, const Call&) {
  mclrec::packed_attention_forward<T>(params, context);
}
template <class T>
void packed_attention_backward(const PackedAttentionParams<T>& params, const T* grad,
                               T* const (&grads)[3], const Call&) {
  mclrec::packed_attention_backward<T>(params, grad, grads[0], grads[1], grads[2]);
}
constexpr int64_t kWidestHead = INT64_MAX;

Tensor tokens_like(const Tensor& x) { return empty(x, {x.size(0), x.size(1), x.size(2)}); }
#endif

struct Options {
  double dropout;
  int64_t seed;
  const Tensor& update;  // int64 []
  int64_t layer;
};

// The inputs, checked and dense.
struct Inputs {
  Tensor query, key, value;       // [T, H, d]
  Tensor offsets;                 // [S + 1] int32
  std::optional<Tensor> visible;  // [T] bool
  Options options;

  Inputs(const Checker& check, const Tensor& query_in, const Tensor& key_in, const Tensor& value_in,
         const Tensor& offsets_in, const std::optional<Tensor>& visible_in, const Options& given)
      : options(given) {
    check.floating("query", query_in, {-1, -1, -1});
    const ScalarType dtype = query_in.scalar_type();
    const int64_t tokens = query_in.size(0), heads = query_in.size(1), size = query_in.size(2);
    check.require(heads >= 1 && size >= 1, "query must have at least one head of one element");
    check.require(size <= kWidestHead, "on CUDA a head has at most ", kWidestHead,
                  " elements, got ", size, " (use backend=\"torch\")");
    check.tensor("key", key_in, dtype, {tokens, heads, size});
    check.tensor("value", value_in, dtype, {tokens, heads, size});
    check.tensor("offsets", offsets_in, ScalarType::Int, {-1});
    check.require(offsets_in.size(0) >= 1, "offsets must hold at least one number");
    check.rows({tokens, (offsets_in.size(0) - 1) * heads});
    if (visible_in) check.tensor("visible", *visible_in, ScalarType::Bool, {tokens});
    check.require(options.dropout >= 0.0 && options.dropout < 1.0,
                  "dropout must be in [0, 1), got ", options.dropout);
    check.counter("update", options.update);
    check.require(options.layer >= 0 && options.layer < 256, "layer must be in 0..255, got ",
                  options.layer);
    query = dense(query_in), key = dense(key_in), value = dense(value_in);
    offsets = dense(offsets_in);
    if (visible_in) visible = dense(*visible_in);
    if constexpr (kReadsValues) check_offsets(check);
  }

  template <class T>
  PackedAttentionParams<T> params() const {
    return {.query = read_pointer<T>(query),
            .key = read_pointer<T>(key),
            .value = read_pointer<T>(value),
            .offsets = read_pointer<int32_t>(offsets),
            .visible = visible ? read_pointer<uint8_t>(*visible) : nullptr,
            .sequences = offsets.size(0) - 1,
            .capacity = query.size(0),
            .heads = query.size(1),
            .size = query.size(2),
            .p = options.dropout,
            .seed = static_cast<uint64_t>(options.seed),
            .update = read_pointer<int64_t>(options.update),
            .layer = static_cast<uint32_t>(options.layer)};
  }

 private:
  void check_offsets(const Checker& check) const {
    const int64_t count = offsets.size(0), tokens = query.size(0);
    const int32_t* offset = read_pointer<int32_t>(offsets);
    check.require(offset[0] == 0, "offsets must start at 0, got ", offset[0]);
    for (int64_t s = 0; s + 1 < count; ++s) {
      check.require(offset[s + 1] >= offset[s], "offsets must ascend, got ", offset[s], " and ",
                    offset[s + 1], " around sequence ", s);
    }
    check.require(offset[count - 1] <= tokens, "offsets end at ", offset[count - 1],
                  ", but there are ", tokens, " tokens");
  }
};

Tensor packed_attention_op(const Tensor& query, const Tensor& key, const Tensor& value,
                           const Tensor& offsets, const std::optional<Tensor>& visible,
                           double dropout, int64_t seed, const Tensor& update, int64_t layer) {
  const char* op = "packed_attention";
  const Inputs inputs(Checker(op, query), query, key, value, offsets, visible,
                      {dropout, seed, update, layer});
  Call call(op, query);
  const Tensor context = tokens_like(inputs.query);
  by_dtype(query, [&]<class T>() {
    packed_attention_forward(inputs.params<T>(), write_pointer<T>(context), call);
  });
  call.done();
  return context;
}

std::tuple<Tensor, Tensor, Tensor> packed_attention_backward_op(
    const Tensor& grad_in, const Tensor& query, const Tensor& key, const Tensor& value,
    const Tensor& offsets, const std::optional<Tensor>& visible, double dropout, int64_t seed,
    const Tensor& update, int64_t layer) {
  const char* op = "packed_attention_backward";
  const Checker check(op, query);
  const Inputs inputs(check, query, key, value, offsets, visible, {dropout, seed, update, layer});
  check.tensor("grad", grad_in, query.scalar_type(), {query.size(0), query.size(1), query.size(2)});
  Call call(op, query);
  const Tensor grad = dense(grad_in);
  const Tensor grads[3] = {tokens_like(query), tokens_like(query), tokens_like(query)};
  by_dtype(query, [&]<class T>() {
    packed_attention_backward(
        inputs.params<T>(), read_pointer<T>(grad),
        {write_pointer<T>(grads[0]), write_pointer<T>(grads[1]), write_pointer<T>(grads[2])}, call);
  });
  call.done();
  return {grads[0], grads[1], grads[2]};
}

MCLREC_LIBRARY_IMPL(m) {
  m.impl("packed_attention", TORCH_BOX(&packed_attention_op));
  m.impl("packed_attention_backward", TORCH_BOX(&packed_attention_backward_op));
}

}  // namespace
}  // namespace mclrec
