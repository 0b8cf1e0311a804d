// Launchers of the contrastive losses: info_nce of two views and contrast of four; torch-free.
#pragma once

#include "../shared/contrast.h"
#include "context.h"

namespace mclrec::cuda {

// Numbers of the state between forward and backward.
template <typename Real>
std::int64_t info_nce_state_size(const InfoNceParams<Real>& params);
template <typename Real>
SimilarityStateSize contrast_state_size(const ContrastParams<Real>& params);

// The state (`saved`; `values` and `indices`) may be null where no gradient is wanted.
template <typename Real>
void info_nce_forward(const InfoNceParams<Real>& params, Real* loss, Real* saved, Context& context);
template <typename Real>
void info_nce_backward(const InfoNceParams<Real>& params, const Real* saved,
                       const InfoNceGradients<Real>& gradients, Context& context);

template <typename Real>
void contrast_forward(const ContrastParams<Real>& params, const ContrastLosses<Real>& losses,
                      Real* values, std::int32_t* indices, Context& context);
template <typename Real>
void contrast_backward(const ContrastParams<Real>& params, const Real* values,
                       const std::int32_t* indices, const ContrastGradients<Real>& gradients,
                       Context& context);

}  // namespace mclrec::cuda
