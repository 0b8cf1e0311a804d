// info_nce and contrast as lists of strips (similarity_kernel.cuh). Host code only.
//
// Launches: forward 2 (statistics of all strips, losses), backward 1; with cosine similarity the
// rows of unit length cost one more a view forward and three more in all backward.
#include <optional>
#include <vector>

#include "contrast_cuda.h"
#include "similarity_plan.h"

namespace mclrec::cuda {
namespace {

constexpr double kCosineEps = 1e-8;

// The pair (a, b) with its own temperature and similarity; for "cos" on rows of unit length, which
// are part of the state.
template <typename Real>
class ScaledPair {
 public:
  ScaledPair(const InfoNceParams<Real>& params, Carver<Real>& values, Carver<std::int32_t>& indices)
      : cosine_(params.cosine) {
    const int batch = static_cast<int>(params.batch), hidden = static_cast<int>(params.hidden);
    std::vector<View<Real>> views;
    for (int side = 0; side < 2; ++side) {
      source_[side] = {params.views[side], hidden};
      unit_[side] = {batch, hidden, static_cast<Real>(kCosineEps), nullptr, nullptr};
      if (cosine_) {
        unit_[side].rows = values.take(params.batch * hidden);
        unit_[side].norm = values.take(batch);
      }
      views.push_back(cosine_ ? View<Real>{unit_[side].rows, hidden} : source_[side]);
    }
    plan_.emplace(views, std::vector<ViewPair>{{0, 1, 0, -1}}, batch,
                  static_cast<Real>(1.0 / params.temperature), values, indices);
  }

  const SimilarityPlan<Real>& plan() const { return *plan_; }

  void normalise(void* stream) const {
    if (!cosine_) return;
    for (int side = 0; side < 2; ++side) normalise_rows(source_[side], unit_[side], stream);
  }

  // Cosine only: gradients of a and b from those of their unit rows, added to what `grads` holds if
  // `accumulate`.
  void backward(const Gradients<Real>& base, Real* scratch, Real* const (&grads)[2],
                bool accumulate, Precision precision, void* stream) const {
    Gradients<Real> job = base;
    job.views = 0;
    const std::int64_t numbers = static_cast<std::int64_t>(base.batch) * base.hidden;
    for (int side = 0; side < 2; ++side) {
      if (grads[side] == nullptr) continue;
      GradientJob<Real>& view = job.view[job.views++];
      view = {};
      view.grad_x = scratch + side * numbers;
      plan_->add_terms(side, view);
    }
    if (job.views == 0) return;
    similarity_gradients(job, precision, stream);
    for (int side = 0; side < 2; ++side) {
      if (grads[side] == nullptr) continue;
      normalise_rows_backward<Real>(unit_[side], scratch + side * numbers, accumulate, grads[side],
                                    stream);
    }
  }

 private:
  bool cosine_;
  View<Real> source_[2];
  UnitRows<Real> unit_[2];
  std::optional<SimilarityPlan<Real>> plan_;
};

// The parts of `contrast`: three pairs of plain products with their regularisers, and L_cl1's pair.
template <typename Real>
struct ContrastParts {
  SimilarityPlan<Real> meta;
  std::optional<ScaledPair<Real>> cl1;

  ContrastParts(const ContrastParams<Real>& params, Carver<Real>& values,
                Carver<std::int32_t>& indices)
      : meta({view(params, 0), view(params, 1), view(params, 2), view(params, 3)},
             {{2, 3, 1, 2}, {0, 3, 1, 2}, {1, 2, 1, 2}}, static_cast<int>(params.batch), Real(1),
             values, indices) {
    if (!params.cl1) return;
    cl1.emplace(InfoNceParams<Real>{.views = {params.views[0], params.views[1]},
                                    .batch = params.batch,
                                    .hidden = params.hidden,
                                    .temperature = params.temperature,
                                    .cosine = params.cosine},
                values, indices);
  }

  static View<Real> view(const ContrastParams<Real>& params, int which) {
    return {params.views[which], static_cast<int>(params.hidden)};
  }
};

// The state of the forward pass as the plans take it; the backward pass only reads it.
template <typename Number>
Carver<Number> reader_of(const Number* state) {
  return Carver<Number>(const_cast<Number*>(state));
}

template <typename Real>
Gradients<Real> gradients_of(std::int64_t batch, std::int64_t hidden) {
  Gradients<Real> gradients{};
  gradients.batch = static_cast<int>(batch);
  gradients.hidden = static_cast<int>(hidden);
  return gradients;
}

template <typename Real>
Statistics<Real> statistics_of(std::int64_t batch, std::int64_t hidden) {
  Statistics<Real> strips{};
  strips.batch = static_cast<int>(batch);
  strips.hidden = static_cast<int>(hidden);
  return strips;
}

}  // namespace

template <typename Real>
std::int64_t info_nce_state_size(const InfoNceParams<Real>& params) {
  Carver<Real> values(nullptr);
  Carver<std::int32_t> indices(nullptr);
  ScaledPair<Real>(params, values, indices);
  return values.used();
}

template <typename Real>
SimilarityStateSize contrast_state_size(const ContrastParams<Real>& params) {
  Carver<Real> values(nullptr);
  Carver<std::int32_t> indices(nullptr);
  ContrastParts<Real>(params, values, indices);
  return {values.used(), indices.used()};
}

template <typename Real>
void info_nce_forward(const InfoNceParams<Real>& params, Real* loss, Real* saved,
                      Context& context) {
  if (saved == nullptr) saved = context.scratch<Real>(info_nce_state_size(params));
  Carver<Real> carver(saved);
  Carver<std::int32_t> indices(nullptr);
  const ScaledPair<Real> pair(params, carver, indices);
  pair.normalise(context.stream());
  Statistics<Real> strips = statistics_of<Real>(params.batch, params.hidden);
  pair.plan().add_strips(strips);
  similarity_statistics(strips, context.precision(), context.stream());
  Losses<Real> losses{};
  losses.batch = static_cast<int>(params.batch);
  losses.losses = 1;
  losses.loss[0] = loss;
  pair.plan().add_pairs(losses);
  similarity_losses(losses, context.stream());
}

template <typename Real>
void info_nce_backward(const InfoNceParams<Real>& params, const Real* saved,
                       const InfoNceGradients<Real>& upstream, Context& context) {
  Carver<Real> carver = reader_of(saved);
  Carver<std::int32_t> indices(nullptr);
  const ScaledPair<Real> pair(params, carver, indices);
  Gradients<Real> gradients = gradients_of<Real>(params.batch, params.hidden);
  gradients.upstream[0] = upstream.loss;
  if (params.cosine) {
    Real* scratch = context.scratch<Real>(2 * params.batch * params.hidden);
    pair.backward(gradients, scratch, upstream.views, false, context.precision(), context.stream());
    return;
  }
  for (int side = 0; side < 2; ++side) {
    if (upstream.views[side] == nullptr) continue;
    GradientJob<Real>& view = gradients.view[gradients.views++];
    view.grad_x = upstream.views[side];
    pair.plan().add_terms(side, view);
  }
  if (gradients.views > 0) similarity_gradients(gradients, context.precision(), context.stream());
}

template <typename Real>
void contrast_forward(const ContrastParams<Real>& params, const ContrastLosses<Real>& losses,
                      Real* values, std::int32_t* indices, Context& context) {
  if (values == nullptr) {
    const SimilarityStateSize size = contrast_state_size(params);
    values = context.scratch<Real>(size.values);
    indices = context.scratch<std::int32_t>(size.indices);
  }
  Carver<Real> carver(values);
  Carver<std::int32_t> index_carver(indices);
  const ContrastParts<Real> parts(params, carver, index_carver);
  Statistics<Real> strips = statistics_of<Real>(params.batch, params.hidden);
  parts.meta.add_strips(strips);
  Losses<Real> sums{};
  sums.batch = static_cast<int>(params.batch);
  sums.losses = 3;
  sums.loss[0] = losses.cl1, sums.loss[1] = losses.cl2, sums.loss[2] = losses.regulariser;
  parts.meta.add_pairs(sums);
  if (parts.cl1) {
    parts.cl1->normalise(context.stream());
    parts.cl1->plan().add_strips(strips);
    parts.cl1->plan().add_pairs(sums);
  }
  similarity_statistics(strips, context.precision(), context.stream());
  similarity_losses(sums, context.stream());
}

template <typename Real>
void contrast_backward(const ContrastParams<Real>& params, const Real* values,
                       const std::int32_t* indices, const ContrastGradients<Real>& upstream,
                       Context& context) {
  Carver<Real> carver = reader_of(values);
  Carver<std::int32_t> index_carver = reader_of(indices);
  const ContrastParts<Real> parts(params, carver, index_carver);
  Gradients<Real> gradients = gradients_of<Real>(params.batch, params.hidden);
  gradients.upstream[0] = upstream.cl1, gradients.upstream[1] = upstream.cl2;
  gradients.upstream[2] = upstream.regulariser;
  const bool dot_cl1 = parts.cl1 && !params.cosine;
  for (int which = 0; which < 4; ++which) {
    if (upstream.views[which] == nullptr) continue;
    GradientJob<Real>& view = gradients.view[gradients.views++];
    view.grad_x = upstream.views[which];
    parts.meta.add_terms(which, view);
    if (dot_cl1 && which < 2) parts.cl1->plan().add_terms(which, view);
  }
  if (gradients.views > 0) similarity_gradients(gradients, context.precision(), context.stream());
  if (parts.cl1 && params.cosine) {
    Real* scratch = context.scratch<Real>(2 * params.batch * params.hidden);
    parts.cl1->backward(gradients, scratch, {upstream.views[0], upstream.views[1]}, true,
                        context.precision(), context.stream());
  }
}

#define MCLREC_INSTANTIATE(Real)                                                                  \
  template std::int64_t info_nce_state_size(const InfoNceParams<Real>&);                          \
  template SimilarityStateSize contrast_state_size(const ContrastParams<Real>&);                  \
  template void info_nce_forward(const InfoNceParams<Real>&, Real*, Real*, Context&);             \
  template void info_nce_backward(const InfoNceParams<Real>&, const Real*,                        \
                                  const InfoNceGradients<Real>&, Context&);                       \
  template void contrast_forward(const ContrastParams<Real>&, const ContrastLosses<Real>&, Real*, \
                                 std::int32_t*, Context&);                                        \
  template void contrast_backward(const ContrastParams<Real>&, const Real*, const std::int32_t*,  \
                                  const ContrastGradients<Real>&, Context&);
MCLREC_INSTANTIATE(float)
MCLREC_INSTANTIATE(double)
#undef MCLREC_INSTANTIATE

}  // namespace mclrec::cuda
