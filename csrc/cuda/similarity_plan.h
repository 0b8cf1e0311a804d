// Which strips, pairs and gradient terms a set of views and pairs needs, and where their numbers
// lie; builds the jobs of similarity_cuda.h. Host code only.
#pragma once

#include <vector>

#include "carver.h"
#include "similarity_cuda.h"

namespace mclrec::cuda {

// Two views to contrast: their indices, and the losses they are added to (regulariser -1: none).
struct ViewPair {
  int a, b;
  int contrast, regulariser;
};

template <typename Real>
class SimilarityPlan {
 public:
  // Views of B rows of D numbers, products times `scale`. `values` and `indices` hold the state
  // between forward and backward; null bases only count its size.
  SimilarityPlan(std::vector<View<Real>> views, std::vector<ViewPair> pairs, int batch, Real scale,
                 Carver<Real>& values, Carver<std::int32_t>& indices)
      : batch_(batch), scale_(scale), views_(views.size()), pairs_(pairs.size()) {
    for (std::size_t v = 0; v < views.size(); ++v) views_[v].rows = views[v];
    for (std::size_t p = 0; p < pairs.size(); ++p) {
      pairs_[p].pair = pairs[p];
      for (const int view : {pairs[p].a, pairs[p].b}) {
        views_[index(view)].pairs += 1;
        views_[index(view)].hinges |= pairs[p].regulariser >= 0;
      }
    }
    for (Seen& view : views_) {
      if (view.pairs == 0) continue;
      view.self = carve_strip(values, indices, view.hinges, false);
      view.d_self = view.hinges ? values.take(batch) : nullptr;
    }
    for (Kept& pair : pairs_) carve_pair(pair, values, indices);
  }

  void add_strips(Statistics<Real>& job) const {
    for (const Seen& view : views_) {
      if (view.pairs > 0) add_strip(job, view.rows, view.rows, true, view.self);
    }
    for (const Kept& pair : pairs_) {
      const View<Real>&a = view_of(pair.pair.a).rows, &b = view_of(pair.pair.b).rows;
      add_strip(job, a, b, false, pair.ab);
      add_strip(job, b, a, false, pair.ba);
    }
  }

  void add_pairs(Losses<Real>& job) const {
    std::vector<bool> met(views_.size(), false);
    for (const Kept& pair : pairs_) {
      const Seen &a = view_of(pair.pair.a), &b = view_of(pair.pair.b);
      PairJob<Real>& out = job.pair[job.pairs++];
      out = {a.self,
             b.self,
             pair.ab,
             pair.ba,
             pair.pair.contrast,
             pair.pair.regulariser,
             {met[index(pair.pair.a)], met[index(pair.pair.b)]},
             {pair.d_cross[0], pair.d_cross[1]},
             {a.d_self, b.d_self},
             pair.d_positive};
      met[index(pair.pair.a)] = met[index(pair.pair.b)] = true;
    }
  }

  // The terms of a view's gradient, appended to those of `job`.
  void add_terms(int which, GradientJob<Real>& job) const {
    const Seen& view = view_of(which);
    job.x = view.rows;
    add_self_term(which, job);
    for (const Kept& pair : pairs_) {
      if (pair.pair.a != which && pair.pair.b != which) continue;
      const int side = pair.pair.a == which ? 0 : 1;
      const StripStatistics<Real>&here = side == 0 ? pair.ab : pair.ba,
            &there = side == 0 ? pair.ba : pair.ab;
      job.term[job.terms++] = {view_of(side == 0 ? pair.pair.b : pair.pair.a).rows,
                               scale_,
                               false,
                               1,
                               pair.pair.contrast,
                               pair.pair.regulariser,
                               here.max,
                               here.weight,
                               there.max,
                               there.weight,
                               here.negative,
                               there.negative,
                               pair.d_cross[side],
                               pair.d_cross[1 - side],
                               pair.d_positive};
    }
  }

 private:
  struct Seen {  // a view
    View<Real> rows{};
    int pairs = 0;
    bool hinges = false;
    StripStatistics<Real> self{};
    Real* d_self = nullptr;
  };
  struct Kept {  // a pair
    ViewPair pair{};
    StripStatistics<Real> ab{}, ba{};
    Real* d_cross[2] = {};
    Real* d_positive = nullptr;
  };

  static std::size_t index(int view) { return static_cast<std::size_t>(view); }
  const Seen& view_of(int view) const { return views_[index(view)]; }

  StripStatistics<Real> carve_strip(Carver<Real>& values, Carver<std::int32_t>& indices,
                                    bool hinges, bool positives) const {
    StripStatistics<Real> strip{};
    strip.max = values.take(batch_);
    strip.sum = values.take(batch_);
    strip.weight = values.take(batch_);
    if (positives) strip.positive = values.take(batch_);
    if (!hinges) return strip;
    strip.negative_max = values.take(batch_);
    strip.negative_sum = values.take(batch_);
    strip.negative = indices.take(batch_);
    return strip;
  }

  void carve_pair(Kept& pair, Carver<Real>& values, Carver<std::int32_t>& indices) const {
    const bool hinges = pair.pair.regulariser >= 0;
    pair.ab = carve_strip(values, indices, hinges, true);
    pair.ba = carve_strip(values, indices, hinges, true);
    for (int side = 0; side < 2; ++side) {
      pair.d_cross[side] = hinges ? values.take(batch_) : nullptr;
    }
    pair.d_positive = hinges ? values.take(batch_) : nullptr;
  }

  void add_strip(Statistics<Real>& job, const View<Real>& x, const View<Real>& y, bool self,
                 const StripStatistics<Real>& out) const {
    job.strip[job.strips++] = {x, y, scale_, self, out};
  }

  // A view has one self strip, whatever the number of its pairs, whose losses are the same.
  void add_self_term(int which, GradientJob<Real>& job) const {
    const Seen& view = view_of(which);
    for (const Kept& pair : pairs_) {
      if (pair.pair.a != which && pair.pair.b != which) continue;
      job.term[job.terms++] = {view.rows,
                               scale_,
                               true,
                               view.pairs,
                               pair.pair.contrast,
                               pair.pair.regulariser,
                               view.self.max,
                               view.self.weight,
                               view.self.max,
                               view.self.weight,
                               view.self.negative,
                               view.self.negative,
                               view.d_self,
                               view.d_self,
                               nullptr};
      return;
    }
  }

  int batch_;
  Real scale_;
  std::vector<Seen> views_;
  std::vector<Kept> pairs_;
};

}  // namespace mclrec::cuda
