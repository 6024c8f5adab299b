#pragma once

#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/discriminator_config.h"
#include "sharding/run_unit.h"
#include "sharding/sharded_network.h"

namespace tmd::model {

/// One unit per branch: "disc.0" .. "disc.<heads-1>".
std::vector<sharding::UnitSpec> discriminator_units(const DiscriminatorConfig& config);

/// The branches over a sharded network that has discriminator_units.
class Discriminator {
 public:
  /// Keeps a reference to `network`, which must outlive it.
  Discriminator(const DiscriminatorConfig& config, sharding::ShardedNetwork& network)
      : config_(config), network_(network) {}

  const DiscriminatorConfig& config() const { return config_; }
  sharding::ShardedNetwork& network() const { return network_; }

  /// Logits [B, heads] of one feature map [B, C, T, H, W] per head; throws kInternal for another number of
  /// maps. `keep`: one dropout mask [B, hidden] per head, of 0 and 1 in the type of the map, whose ones count
  /// 1 / (1 - dropout); or empty. `weight_gradients`: as in run_unit.
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
