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
  ScaledPair(const Real* a, const Real* b, std::int64_t batch, int depth, double temperature,
             bool cosine, int loss, Carver<Real>& values, Carver<std::int32_t>& indices)
      : batch_(static_cast<int>(batch)), depth_(depth), cosine_(cosine), source_{a, b} {
    std::vector<View<Real>> views;
    for (int side = 0; side < 2; ++side) {
      unit_[side] = cosine ? values.take(batch * depth) : nullptr;
      norm_[side] = cosine ? values.take(batch) : nullptr;
      views.push_back({cosine ? unit_[side] : source_[side], depth});
    }
    plan_.emplace(views, std::vector<ViewPair>{{0, 1, loss, -1}}, batch_,
                  static_cast<Real>(1.0 / temperature), values, indices);
  }

  const SimilarityPlan<Real>& plan() const { return *plan_; }

  void normalise(void* stream) const {
    if (!cosine_) return;
    for (int side = 0; side < 2; ++side) {
      normalise_rows<Real>({source_[side], depth_}, batch_, depth_, unit_[side], norm_[side],
                           static_cast<Real>(kCosineEps), stream);
    }
  }

  // Cosine only: gradients of a and b from those of their unit rows, added to what `grads` holds if
  // `accumulate`.
  void backward(const Gradients<Real>& base, Real* scratch, Real* const (&grads)[2],
                bool accumulate, Precision precision, void* stream) const {
    Gradients<Real> job = base;
    job.views = 0;
    const std::int64_t numbers = static_cast<std::int64_t>(batch_) * depth_;
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
      normalise_rows_backward<Real>(unit_[side], norm_[side], scratch + side * numbers, batch_,
                                    depth_, static_cast<Real>(kCosineEps), accumulate, grads[side],
                                    stream);
    }
  }

 private:
  int batch_, depth_;
  bool cosine_;
  const Real* source_[2];
  Real* unit_[2];
  Real* norm_[2];
  std::optional<SimilarityPlan<Real>> plan_;
};

template <typename Real>
ScaledPair<Real> info_nce_pair(const InfoNce<Real>& job, Carver<Real>& values,
                               Carver<std::int32_t>& indices) {
  return {job.a, job.b, job.batch, job.depth, job.temperature, job.cosine, 0, values, indices};
}

// The parts of `contrast`: three pairs of plain products with their regularisers, and L_cl1's pair.
template <typename Real>
struct ContrastParts {
  SimilarityPlan<Real> meta;
  std::optional<ScaledPair<Real>> cl1;

  ContrastParts(const Contrast<Real>& job, Carver<Real>& values, Carver<std::int32_t>& indices)
      : meta({{job.views[0], job.depth},
              {job.views[1], job.depth},
              {job.views[2], job.depth},
              {job.views[3], job.depth}},
             {{2, 3, 1, 2}, {0, 3, 1, 2}, {1, 2, 1, 2}}, static_cast<int>(job.batch), Real(1),
             values, indices) {
    if (!job.cl1) return;
    cl1.emplace(job.views[0], job.views[1], job.batch, job.depth, job.temperature, job.cosine, 0,
                values, indices);
  }
};

}  // namespace

template <typename Real>
StateSize info_nce_state(const InfoNce<Real>& job) {
  Carver<Real> values(nullptr);
  Carver<std::int32_t> indices(nullptr);
  info_nce_pair(job, values, indices);
  return {values.used(), indices.used()};
}

template <typename Real>
StateSize contrast_state(const Contrast<Real>& job) {
  Carver<Real> values(nullptr);
  Carver<std::int32_t> indices(nullptr);
  ContrastParts<Real>(job, values, indices);
  return {values.used(), indices.used()};
}

template <typename Real>
void info_nce(const InfoNce<Real>& job, Real* values, Real* loss, void* stream) {
  Carver<Real> carver(values);
  Carver<std::int32_t> indices(nullptr);
  const ScaledPair<Real> pair = info_nce_pair(job, carver, indices);
  pair.normalise(stream);
  Statistics<Real> strips{};
  strips.batch = static_cast<int>(job.batch);
  strips.depth = job.depth;
  pair.plan().add_strips(strips);
  similarity_statistics(strips, job.precision, stream);
  Losses<Real> losses{};
  losses.batch = static_cast<int>(job.batch);
  losses.losses = 1;
  losses.loss[0] = loss;
  pair.plan().add_pairs(losses);
  similarity_losses(losses, stream);
}

template <typename Real>
void info_nce_backward(const InfoNce<Real>& job, Real* values, const Real* grad_loss, Real* scratch,
                       Real* const (&grads)[2], void* stream) {
  Carver<Real> carver(values);
  Carver<std::int32_t> indices(nullptr);
  const ScaledPair<Real> pair = info_nce_pair(job, carver, indices);
  Gradients<Real> gradients{};
  gradients.batch = static_cast<int>(job.batch);
  gradients.depth = job.depth;
  gradients.upstream[0] = grad_loss;
  if (job.cosine) {
    pair.backward(gradients, scratch, grads, false, job.precision, stream);
    return;
  }
  for (int side = 0; side < 2; ++side) {
    if (grads[side] == nullptr) continue;
    GradientJob<Real>& view = gradients.view[gradients.views++];
    view.grad_x = grads[side];
    pair.plan().add_terms(side, view);
  }
  if (gradients.views > 0) similarity_gradients(gradients, job.precision, stream);
}

template <typename Real>
void contrast(const Contrast<Real>& job, Real* values, std::int32_t* indices,
              Real* const (&losses)[3], void* stream) {
  Carver<Real> carver(values);
  Carver<std::int32_t> index_carver(indices);
  const ContrastParts<Real> parts(job, carver, index_carver);
  Statistics<Real> strips{};
  strips.batch = static_cast<int>(job.batch);
  strips.depth = job.depth;
  parts.meta.add_strips(strips);
  Losses<Real> sums{};
  sums.batch = static_cast<int>(job.batch);
  sums.losses = 3;
  for (int i = 0; i < 3; ++i) sums.loss[i] = losses[i];
  parts.meta.add_pairs(sums);
  if (parts.cl1) {
    parts.cl1->normalise(stream);
    parts.cl1->plan().add_strips(strips);
    parts.cl1->plan().add_pairs(sums);
  }
  similarity_statistics(strips, job.precision, stream);
  similarity_losses(sums, stream);
}

template <typename Real>
void contrast_backward(const Contrast<Real>& job, Real* values, std::int32_t* indices,
                       const Real* const (&grad_losses)[3], Real* scratch, Real* const (&grads)[4],
                       void* stream) {
  Carver<Real> carver(values);
  Carver<std::int32_t> index_carver(indices);
  const ContrastParts<Real> parts(job, carver, index_carver);
  Gradients<Real> gradients{};
  gradients.batch = static_cast<int>(job.batch);
  gradients.depth = job.depth;
  for (int i = 0; i < 3; ++i) gradients.upstream[i] = grad_losses[i];
  const bool dot_cl1 = parts.cl1 && !job.cosine;
  for (int which = 0; which < 4; ++which) {
    if (grads[which] == nullptr) continue;
    GradientJob<Real>& view = gradients.view[gradients.views++];
    view.grad_x = grads[which];
    parts.meta.add_terms(which, view);
    if (dot_cl1 && which < 2) parts.cl1->plan().add_terms(which, view);
  }
  if (gradients.views > 0) similarity_gradients(gradients, job.precision, stream);
  if (parts.cl1 && job.cosine) {
    parts.cl1->backward(gradients, scratch, {grads[0], grads[1]}, true, job.precision, stream);
  }
}

#define MCLREC_INSTANTIATE(Real)                                                                 \
  template StateSize info_nce_state(const InfoNce<Real>&);                                       \
  template StateSize contrast_state(const Contrast<Real>&);                                      \
  template void info_nce(const InfoNce<Real>&, Real*, Real*, void*);                             \
  template void info_nce_backward(const InfoNce<Real>&, Real*, const Real*, Real*,               \
                                  Real* const(&)[2], void*);                                     \
  template void contrast(const Contrast<Real>&, Real*, std::int32_t*, Real* const(&)[3], void*); \
  template void contrast_backward(const Contrast<Real>&, Real*, std::int32_t*,                   \
                                  const Real* const(&)[3], Real*, Real* const(&)[4], void*);
MCLREC_INSTANTIATE(float)
MCLREC_INSTANTIATE(double)
#undef MCLREC_INSTANTIATE

}  // namespace mclrec::cuda
