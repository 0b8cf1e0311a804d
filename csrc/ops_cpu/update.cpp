// update_step for torch: one update of a batch in one call, from packed sequences to new weights.
// The operators of chain.h one behind the other, so the bits are those of calling them in turn;
// what is saved is the way through Python and the dispatcher between them, some milliseconds a
// batch when the kernels have driven both out of cache. On the CPU only.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "../ops/checks.h"
#include "../ops/device.h"
#include "chain.h"

namespace mclrec {
namespace {

// Of Adam, for the weights that move: means of the gradients, of their squares, and the steps.
struct Moments {
  std::vector<Tensor> first, second, steps;

  Moments(const Checker& check, const char* name, const std::vector<Tensor>& weights,
          const std::vector<Tensor>& all) {
    if (all.empty()) return;
    const size_t count = weights.size();
    check.require(all.size() == 2 * count + 1, name, " must be two for each of ", count,
                  " weights and the steps, or none, got ", all.size());
    const auto middle = all.begin() + static_cast<std::ptrdiff_t>(count);
    first.assign(all.begin(), middle);
    second.assign(middle, all.end() - 1);
    steps.push_back(all.back());
  }
  bool wanted() const { return !steps.empty(); }
};

struct Rates {
  double encoder, augmenter, beta_1, beta_2, eps;

  void step(const std::vector<Tensor>& weights, const std::vector<Tensor>& gradients,
            const Moments& moments, double rate) const {
    adam_step_op(weights, gradients, moments.first, moments.second, moments.steps[0], rate, beta_1,
                 beta_2, eps);
  }
};

struct ContrastOptions {
  double temperature;
  bool cosine;
  double lambda, beta, gamma;
  bool of_encoder;  // whether L0 is minimised, or L1
};

template <class T>
Tensor scalar(const Tensor& like, T value) {
  const Tensor tensor = empty(like, {});
  *write_pointer<T>(tensor) = value;
  return tensor;
}

// The terms, and the gradients of what they count in the objective.
struct Contrasted {
  Tensor cl1, cl2, regulariser;
  Tensor views[2], through[2];  // of each view, two addends; where wanted
  std::vector<Tensor> weights;  // of the augmenters, where wanted
};

template <class T>
Contrasted contrast_views(const Tensor& h1, const Tensor& h2, const std::vector<Tensor>& augmenters,
                          const ContrastOptions& options, bool of_augmenters) {
  const bool cl1 = options.lambda != 0, of_views = options.of_encoder;
  const Tensor h[2] = {h1, h2};
  Tensor z[2], kept[2];
  const Tensor* of[2] = {augmenters.data(), augmenters.data() + augmenters.size() - 6};
  for (int v = 0; v < 2; ++v) {
    const Tensor* w = of[v];
    std::tie(z[v], kept[v]) = augmenter_op(h[v], w[0], w[1], w[2], w[3], w[4], w[5], true);
  }
  Contrasted found;
  Tensor values, indices;
  std::tie(found.cl1, found.cl2, found.regulariser, values, indices) =
      contrast_op(h1, h2, z[0], z[1], options.temperature, options.cosine, cl1, true);
  const T beta = static_cast<T>(options.beta), gamma = static_cast<T>(options.gamma);
  const Tensor of_cl1 = scalar<T>(h1, of_views ? static_cast<T>(options.lambda) : T(0));
  const Tensor of_cl2 = scalar<T>(h1, of_views ? beta : T(1));
  const Tensor of_regulariser = scalar<T>(h1, of_views ? beta * gamma : gamma);
  Tensor grad_z[2];
  std::tie(found.views[0], found.views[1], grad_z[0], grad_z[1]) = contrast_backward_op(
      of_cl1, of_cl2, of_regulariser, h1, h2, z[0], z[1], values, indices, options.temperature,
      options.cosine, cl1, of_views, of_views, true, true);
  for (int v = 0; v < 2; ++v) {
    const Tensor* w = of[v];
    std::vector<Tensor> all = augmenter_backward_op(grad_z[v], h[v], w[0], w[1], w[2], w[3], w[4],
                                                    w[5], z[v], kept[v], of_views, of_augmenters);
    found.through[v] = all[0];
    if (!of_augmenters) continue;
    if (of[0] == of[1] && v == 1) {  // one augmenter for both
      for (size_t i = 0; i < found.weights.size(); ++i) {
        T* sum = write_pointer<T>(found.weights[i]);
        const T* more = read_pointer<T>(all[i + 1]);
        for (int64_t k = 0; k < all[i + 1].numel(); ++k) sum[k] += more[k];
      }
    } else {
      found.weights.insert(found.weights.end(), all.begin() + 1, all.end());
    }
  }
  return found;
}

// See mclrec_fast/ops/update.py. The losses: [rec, cl1, cl2, regulariser, total].
Tensor update_step_op(const Tensor& items, const Tensor& positions, const Tensor& offsets,
                      const std::optional<Tensor>& targets, const std::vector<Tensor>& encoder,
                      const std::vector<Tensor>& augmenters, int64_t heads, double hidden_dropout,
                      double attention_dropout, double eps, int64_t seed, int64_t update,
                      double temperature, bool cosine, double lambda, double beta, double gamma,
                      const std::vector<Tensor>& encoder_moments,
                      const std::vector<Tensor>& augmenter_moments, double encoder_rate,
                      double augmenter_rate, double beta_1, double beta_2, double adam_eps) {
  const Checker check("update_step", items);
  check.counter("update", update);
  check.require(augmenters.empty() || augmenters.size() == 6 || augmenters.size() == 12,
                "augmenters must be 0, 6 or 12 weights, got ", augmenters.size());
  check.require(targets || !augmenters.empty(), "there is nothing to minimise");
  const Moments of_encoder(check, "encoder_moments", encoder, encoder_moments);
  const Moments of_augmenters(check, "augmenter_moments", augmenters, augmenter_moments);
  check.require(targets.has_value() || !of_encoder.wanted(), "the encoder moves down L0 only");
  check.require(offsets.dim() == 1 && offsets.size(0) >= 1, "offsets must hold a number");
  const int64_t sequences = offsets.size(0) - 1, kinds = augmenters.empty() ? 1 : targets ? 3 : 2;
  const int64_t size = sequences / kinds;
  check.require(size >= 1 && size * kinds == sequences, "there must be ", kinds,
                " sequences for each sample, got ", sequences);
  const Rates rates{encoder_rate, augmenter_rate, beta_1, beta_2, adam_eps};
  const Tensor number = empty(items, {}, ScalarType::Long);
  *write_pointer<int64_t>(number) = update;
  const auto [h, saved] =
      encode_op(items, positions, offsets, encoder, heads, hidden_dropout, attention_dropout, eps,
                seed, number, of_encoder.wanted(), std::nullopt);
  return by_dtype(h, [&]<class T>() {
    const int64_t hidden = h.size(1);
    const Tensor losses = empty(h, {5});
    T* const loss = write_pointer<T>(losses);
    std::fill_n(loss, 5, T(0));
    const auto value = [](const Tensor& tensor) { return *read_pointer<T>(tensor); };
    Contrasted contrasted;
    if (!augmenters.empty()) {
      const int64_t first = sequences - 2 * size;
      auto mutable_h = h;
      contrasted =
          contrast_views<T>(torch::stable::narrow(mutable_h, 0, first, size),
                            torch::stable::narrow(mutable_h, 0, first + size, size), augmenters,
                            {.temperature = temperature,
                             .cosine = cosine,
                             .lambda = lambda,
                             .beta = beta,
                             .gamma = gamma,
                             .of_encoder = targets.has_value()},
                            of_augmenters.wanted());
      loss[1] = value(contrasted.cl1);
      loss[2] = value(contrasted.cl2);
      loss[3] = value(contrasted.regulariser);
    }
    const T meta = loss[2] + static_cast<T>(gamma) * loss[3];
    if (!targets) {
      loss[4] = meta + static_cast<T>(lambda) * loss[1];
    } else {
      auto mutable_h = h;
      const auto [rec, grad_h, grad_items] =
          item_cross_entropy_op(torch::stable::narrow(mutable_h, 0, 0, size), encoder[0], *targets,
                                of_encoder.wanted(), of_encoder.wanted());
      loss[0] = value(rec);
      loss[4] = loss[0] + static_cast<T>(lambda) * loss[1] + static_cast<T>(beta) * meta;
      if (of_encoder.wanted()) {
        const Tensor grad = empty(h, {sequences, hidden});
        T* to = write_pointer<T>(grad);
        to = std::copy_n(read_pointer<T>(grad_h), size * hidden, to);
        for (int v = 0; v < 2 && !augmenters.empty(); ++v) {
          const T* direct = read_pointer<T>(contrasted.views[v]);
          const T* through = read_pointer<T>(contrasted.through[v]);
          to = std::transform(direct, direct + size * hidden, through, to,
                              [](T a, T b) { return a + b; });
        }
        std::vector<Tensor> gradients = encode_backward_add_op(
            grad, items, positions, offsets, encoder, saved, heads, hidden_dropout,
            attention_dropout, eps, seed, number, grad_items, std::nullopt);
        gradients.insert(gradients.begin(), grad_items);
        rates.step(encoder, gradients, of_encoder, rates.encoder);
      }
    }
    if (of_augmenters.wanted()) {
      rates.step(augmenters, contrasted.weights, of_augmenters, rates.augmenter);
    }
    return losses;
  });
}

MCLREC_LIBRARY_IMPL(m) { m.impl("update_step", TORCH_BOX(&update_step_op)); }

}  // namespace
}  // namespace mclrec
