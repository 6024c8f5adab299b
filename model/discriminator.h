#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/parameters.h"
#include "sharding/run_unit.h"
#include "sharding/sharded_network.h"

namespace tmd::model {

/// Multiscale 3-D convolutional discriminator on feature maps of the teacher ("Conv3D" of TMD App. A.3): one branch
/// and one logit per feature map.
struct DiscriminatorConfig {
  int64_t channels = 384;                        ///< C of the feature maps, D / 4
  int64_t heads = 3;                             ///< feature maps
  std::vector<int64_t> scales = {1, 2, 4, 8, 16};  ///< pooling factors; clipped to the map's size per axis
  int64_t hidden = 1024;
  double dropout = 0.1;                          ///< in front of the last Linear, in the critic step only

  /// Groups of the GroupNorms: C/4 (at least 1) up to 32 channels, else the largest divisor of C that is at most 32.
  int64_t groups() const;
};

struct ScaleWeights {
  LinearWeights conv1;  // [C, C, 1, 1, 1]
  LinearWeights norm1;  // [C]
  LinearWeights conv3;  // [C, C, 3, 3, 3]
  LinearWeights norm2;  // [C]
};
struct BranchWeights {
  std::vector<ScaleWeights> scales;
  LinearWeights fc1, fc2;  // [hidden, 5 C], [1, hidden]
};
/// `prefix`: "disc.0".
void visit(ParameterVisitor& visitor, BranchWeights& branch, const DiscriminatorConfig& config,
           const std::string& prefix);

/// One unit per branch: "disc.0", "disc.1", ...
std::vector<sharding::UnitSpec> discriminator_units(const DiscriminatorConfig& config);

/// Logit [B] of a feature map [B, C, T, H, W]. `keep` [B, hidden] of 0 and 1: dropout mask; undefined = no dropout.
at::Tensor branch_forward(const BranchWeights& branch, const DiscriminatorConfig& config, const at::Tensor& map,
                          const at::Tensor& keep);

class Discriminator {
 public:
  Discriminator(const DiscriminatorConfig& config, sharding::ShardedNetwork& network)
      : config_(config), network_(network) {}

  const DiscriminatorConfig& config() const { return config_; }
  sharding::ShardedNetwork& network() const { return network_; }

  /// Logits [B, heads] of one feature map per head. `keep`: one dropout mask per head, or empty.
  /// Collective over: the shard group.
  at::Tensor forward(const std::vector<at::Tensor>& maps, const std::vector<at::Tensor>& keep,
                     bool weight_gradients) const;

 private:
  DiscriminatorConfig config_;
  sharding::ShardedNetwork& network_;
};

}  // namespace tmd::model
