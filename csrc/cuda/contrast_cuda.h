// Launchers of the contrastive losses: `info_nce` of two views and `contrast` of four; torch-free.
#pragma once

#include <cstdint>

#include "precision.h"

namespace mclrec::cuda {

// con(a, b), Eq. 8, as the mean over the 2B rows.
template <typename Real>
struct InfoNce {
  const Real* a;  // [B, D]
  const Real* b;
  std::int64_t batch;
  int depth;
  double temperature;
  bool cosine;
  Precision precision;
};

// L_cl1, L_cl2 and R of h1, h2, z1, z2.
template <typename Real>
struct Contrast {
  const Real* views[4];  // [B, D] each
  std::int64_t batch;
  int depth;
  double temperature;  // of L_cl1, as is `cosine`
  bool cosine, cl1;
  Precision precision;
};

struct StateSize {
  std::int64_t values, indices;
};

template <typename Real>
StateSize info_nce_state(const InfoNce<Real>& job);
template <typename Real>
StateSize contrast_state(const Contrast<Real>& job);

// Forward: losses are scalars on the device; `values` (and `indices`, int32) is the state that the
// backward pass reads, of the size above. Backward: `scratch` holds 2 B D numbers if `cosine`
// (otherwise null); a null gradient is not computed.
template <typename Real>
void info_nce(const InfoNce<Real>& job, Real* values, Real* loss, void* stream);
template <typename Real>
void info_nce_backward(const InfoNce<Real>& job, Real* values, const Real* grad_loss, Real* scratch,
                       Real* const (&grads)[2], void* stream);

template <typename Real>
void contrast(const Contrast<Real>& job, Real* values, std::int32_t* indices,
              Real* const (&losses)[3], void* stream);
template <typename Real>
void contrast_backward(const Contrast<Real>& job, Real* values, std::int32_t* indices,
                       const Real* const (&grad_losses)[3], Real* scratch, Real* const (&grads)[4],
                       void* stream);

}  // namespace mclrec::cuda
