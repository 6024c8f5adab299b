#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/parameters.h"
#include "sharding/run_unit.h"
#include "sharding/sharded_network.h"

namespace tmd::model {

/// Multiscale 3-D convolutional discriminator on feature maps of the teacher ("Conv3D" of TMD App. A.3; in
/// the form of FastGen's multiscale_down_mlp_large): one branch and one logit per feature map.
struct DiscriminatorConfig {
  int64_t channels = 384;  ///< C of the feature maps, D / 4
  int64_t heads = 3;       ///< feature maps
  int64_t reduction = 1;   ///< divides C: the branches' convolutions have C / reduction
  std::vector<int64_t> scales = {1, 2, 4, 8, 16};  ///< pooling factors; clipped to the map's size per axis
  int64_t hidden = 1024;                           ///< width of the MLP on the pooled scales
  double dropout = 0.1;                            ///< in front of the last Linear, in the critic step only

  /// Channels inside a branch, R.
  int64_t inner_channels() const { return channels / reduction; }
  /// Groups of the GroupNorms: the largest divisor of R that is at most R/4 (at least 1) for up to 32
  /// channels, at most 32 for more.
  int64_t groups() const;
};

/// Conv 1, GroupNorm, leak, pool, Conv 3, GroupNorm, leak, mean of one scale. Weight, then bias; R =
/// inner_channels().
struct ScaleWeights {
  LinearWeights conv1;  ///< [R, C, 1, 1, 1], [R]
  LinearWeights norm1;  ///< [R], [R]
  LinearWeights conv3;  ///< [R, R, 3, 3, 3], [R]
  LinearWeights norm2;  ///< [R], [R]
};
struct BranchWeights {
  std::vector<ScaleWeights> scales;  ///< one for each of config.scales
  LinearWeights fc1, fc2;            ///< [hidden, scales * R] and [hidden], [1, hidden] and [1]
};
/// Resizes `scales`. `prefix`: "disc.0", with which the tensor names begin.
void visit(ParameterVisitor& visitor, BranchWeights& branch, const DiscriminatorConfig& config,
           const std::string& prefix);

/// One unit per branch: "disc.0" .. "disc.<heads-1>".
std::vector<sharding::UnitSpec> discriminator_units(const DiscriminatorConfig& config);

/// Logit [B] of a feature map [B, C, T, H, W]. `keep` [B, hidden] of 0 and 1 in the type of the map: dropout
/// mask, whose ones count 1 / (1 - dropout); undefined = no dropout.
at::Tensor branch_forward(const BranchWeights& branch, const DiscriminatorConfig& config,
                          const at::Tensor& map, const at::Tensor& keep);

/// The branches over a sharded network that has discriminator_units.
class Discriminator {
 public:
  /// Keeps a reference to `network`, which must outlive it.
  Discriminator(const DiscriminatorConfig& config, sharding::ShardedNetwork& network)
      : config_(config), network_(network) {}

  const DiscriminatorConfig& config() const { return config_; }
  sharding::ShardedNetwork& network() const { return network_; }

  /// Logits [B, heads] of one feature map [B, C, T, H, W] per head; throws kInternal for another number of
  /// maps. `keep`: one dropout mask [B, hidden] per head, or empty. `weight_gradients`: as in run_unit.
  /// Maps and logits are equal on all ranks of a sample group, which deal the branches among themselves: the
  /// gradient of a map is that of the rank that has its branch, zero on the others.
  /// Collective over: the copy group.
  at::Tensor forward(const std::vector<at::Tensor>& maps, const std::vector<at::Tensor>& keep,
                     bool weight_gradients) const;

 private:
  DiscriminatorConfig config_;
  sharding::ShardedNetwork& network_;
};

}  // namespace tmd::model
