#pragma once

#include <string>
#include <vector>

#include "model/discriminator_layers.h"

namespace tmd::model {

// Convolutions over time and over space in turn ("Conv1D-2D" of TMD's ablation; widths, strides and order as
// in FastGen's conv1d_2d_down_mlp).

/// A Conv1d over frames, GroupNorm, leak, a Conv2d over rows and columns, GroupNorm, leak. Both have 3 taps
/// an axis and a padding of 1; R, S = channels of the pair in front (or of the map) and of this one.
struct ConvPairWeights {
  LinearWeights temporal;  ///< [S, R, 3, 1, 1], [S]
  LinearWeights norm1;     ///< [S], [S]
  LinearWeights spatial;   ///< [S, S, 1, 3, 3], [S]
  LinearWeights norm2;     ///< [S], [S]
};
struct Conv1d2dBranch {
  std::vector<ConvPairWeights> pairs;  ///< one for each of config.conv_widths
  PerceptronWeights perceptron;        ///< on the means of the last pair's channels
};
/// Resizes `pairs`. `prefix`: "disc.0", with which the tensor names begin.
void visit(ParameterVisitor& visitor, Conv1d2dBranch& branch, const DiscriminatorConfig& config,
           const std::string& prefix);

/// Logit [B] of a feature map [B, C, T, H, W]. Every pair halves height and width, every one but the first
/// the frames too, rounding up: a map of any size will do. `keep` as for the other kinds.
at::Tensor branch_logit(const Conv1d2dBranch& branch, const DiscriminatorConfig& config,
                        const at::Tensor& map, const at::Tensor& keep);

}  // namespace tmd::model
