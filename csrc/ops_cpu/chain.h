// The operators that an update in one call chains (update.cpp), as functions: the same checks, but
// no Python and no dispatcher between them. What they take and return is said where they are.
#pragma once

#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "../ops/device.h"

namespace mclrec {

std::tuple<Tensor, Tensor> encode_op(const Tensor& items, const Tensor& positions,
                                     const Tensor& offsets, const std::vector<Tensor>& weights,
                                     int64_t heads, double hidden_dropout, double attention_dropout,
                                     double eps, int64_t seed, const Tensor& update, bool save,
                                     const std::optional<Tensor>& rows);

std::vector<Tensor> encode_backward_add_op(const Tensor& grad_h, const Tensor& items,
                                           const Tensor& positions, const Tensor& offsets,
                                           const std::vector<Tensor>& weights, const Tensor& saved,
                                           int64_t heads, double hidden_dropout,
                                           double attention_dropout, double eps, int64_t seed,
                                           const Tensor& update, const Tensor& grad_items,
                                           const std::optional<Tensor>& rows);

std::tuple<Tensor, Tensor, Tensor> item_cross_entropy_op(const Tensor& h,
                                                         const Tensor& item_embedding,
                                                         const Tensor& targets, bool grad_h,
                                                         bool grad_items);

std::tuple<Tensor, Tensor> augmenter_op(const Tensor& h, const Tensor& weight_1,
                                        const Tensor& bias_1, const Tensor& weight_2,
                                        const Tensor& bias_2, const Tensor& weight_3,
                                        const Tensor& bias_3, bool save);

std::vector<Tensor> augmenter_backward_op(const Tensor& grad_z, const Tensor& h,
                                          const Tensor& weight_1, const Tensor& bias_1,
                                          const Tensor& weight_2, const Tensor& bias_2,
                                          const Tensor& weight_3, const Tensor& bias_3,
                                          const Tensor& z, const Tensor& saved, bool grad_h,
                                          bool grad_weights);

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> contrast_op(const Tensor& h1, const Tensor& h2,
                                                               const Tensor& z1, const Tensor& z2,
                                                               double temperature, bool cosine,
                                                               bool cl1, bool save);

std::tuple<Tensor, Tensor, Tensor, Tensor> contrast_backward_op(
    const Tensor& grad_cl1, const Tensor& grad_cl2, const Tensor& grad_regulariser,
    const Tensor& h1, const Tensor& h2, const Tensor& z1, const Tensor& z2, const Tensor& values,
    const Tensor& indices, double temperature, bool cosine, bool cl1, bool grad_h1, bool grad_h2,
    bool grad_z1, bool grad_z2);

void adam_step_op(const std::vector<Tensor>& weights, const std::vector<Tensor>& gradients,
                  const std::vector<Tensor>& first, const std::vector<Tensor>& second,
                  const Tensor& steps, double learning_rate, double beta_1, double beta_2,
                  double eps);

}  // namespace mclrec
