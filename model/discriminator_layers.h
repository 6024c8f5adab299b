#pragma once

#include <array>
#include <cstdint>
#include <string>

#include <ATen/core/Tensor.h>

#include "model/discriminator_config.h"
#include "model/parameters.h"

namespace tmd::model {

// What branches of several kinds are made of. Tensors have the type of the weights throughout.

/// Frames, rows, columns.
using Extents = std::array<int64_t, 3>;

/// A convolution [out, in, *kernel] with Xavier-uniform weight and zero bias [out].
void visit_conv(ParameterVisitor& visitor, LinearWeights& conv, const std::string& name, int64_t out,
                int64_t in, const Extents& kernel);

/// Weight [size] of ones and bias [size] of zeros of a GroupNorm or LayerNorm.
void visit_norm(ParameterVisitor& visitor, LinearWeights& norm, const std::string& name, int64_t size);

/// LeakyReLU(0.2) of the GroupNorm of `x` [B, C, ...] with group_count(C) groups.
at::Tensor norm_and_leak(const at::Tensor& x, const LinearWeights& norm);

/// Means of neighbours in `x` [B, C, T, H, W], without those that do not fill a whole `window`; a window is
/// clipped to the map's size per axis, so that parameters do not depend on that size.
at::Tensor average_windows(const at::Tensor& x, const Extents& window);

/// The end of every branch.
struct PerceptronWeights {
  LinearWeights fc1, fc2;  ///< [hidden, in] and [hidden], [1, hidden] and [1]
};
/// `prefix`: of the branch. `in`: features that it has pooled.
void visit(ParameterVisitor& visitor, PerceptronWeights& perceptron, const DiscriminatorConfig& config,
           const std::string& prefix, int64_t in);

/// Logit [B] of `pooled` [B, in]: Linear, leak, dropout, Linear. `keep` as in branch_logit.
at::Tensor perceptron_logit(const PerceptronWeights& perceptron, const DiscriminatorConfig& config,
                            const at::Tensor& pooled, const at::Tensor& keep);

}  // namespace tmd::model
