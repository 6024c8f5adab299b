#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "sharding/gather_buffers.h"

namespace tmd::sharding {

/// Takes the gradients of a unit's parameters as they come out of a backward pass, so that each can be freed
/// at once, and reduces them into the unit's gradient shard.
///
/// Where the unit is cut over ranks they are laid into the flat input of the reduction, for which the last
/// unit's reduction is waited for; on one rank they go straight to the shard.
class GradientSink {
 public:
  /// `network` must be trainable (kInternal) and outlive this object. No communication.
  GradientSink(ShardedNetwork& network, int unit);
  GradientSink(const GradientSink&) = delete;
  GradientSink& operator=(const GradientSink&) = delete;

  /// Gradient of parameter `param`, shaped as in Gathered, at most once each and in any order. Parameters
  /// without one, or with an undefined one, count as zero. Throws kInternal for a second one.
  void put(int param, const at::Tensor& gradient);

  /// Adds the sum over ranks to the unit's gradient shard: over the shard group for blocks of parameters with
  /// a split dimension, over the copy group for those that all tensor ranks share, of which each rank gives
  /// what its own tokens and blocks contribute. Once, after the last put. The sum may be under way when the
  /// call returns: the shard has it after the buffers' finish_reductions. Collective over: the copy group.
  void finish();

 private:
  void open();

  ShardedNetwork& network_;
  const int unit_;
  GatherBuffers::ReduceSlot* slot_ = nullptr;  // null: straight to the shard
  std::vector<at::Tensor> flat_;               // of each part; empty until the first gradient is there
  std::vector<at::Tensor> targets_;            // of each parameter, views of them
  std::vector<bool> is_there_;
  bool adds_ = false;  // to what the targets hold
};

}  // namespace tmd::sharding
