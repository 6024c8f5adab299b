#pragma once

#include <string>
#include <vector>

#include "model/discriminator_layers.h"

namespace tmd::model {

// Multiscale 3-D convolutions ("Conv3D" of TMD App. A.3; in the form of FastGen's multiscale_down_mlp_large).

/// Conv 1, GroupNorm, leak, pool, Conv 3, GroupNorm, leak, mean of one scale. Weight, then bias; R =
/// config.inner_channels().
struct ScaleWeights {
  LinearWeights conv1;  ///< [R, C, 1, 1, 1], [R]
  LinearWeights norm1;  ///< [R], [R]
  LinearWeights conv3;  ///< [R, R, 3, 3, 3], [R]
  LinearWeights norm2;  ///< [R], [R]
};
struct Conv3dBranch {
  std::vector<ScaleWeights> scales;  ///< one for each of config.scales
  PerceptronWeights perceptron;      ///< on scales * R features
};
/// Resizes `scales`. `prefix`: "disc.0", with which the tensor names begin.
void visit(ParameterVisitor& visitor, Conv3dBranch& branch, const DiscriminatorConfig& config,
           const std::string& prefix);

/// Logit [B] of a feature map [B, C, T, H, W]. `keep` [B, hidden] of 0 and 1 in the type of the map: dropout
/// mask, whose ones count 1 / (1 - dropout); undefined = no dropout.
at::Tensor branch_logit(const Conv3dBranch& branch, const DiscriminatorConfig& config, const at::Tensor& map,
                        const at::Tensor& keep);

}  // namespace tmd::model
