#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "sharding/gather_buffers.h"

namespace tmd::sharding {

/// Takes the gradients of a unit's parameters as they come out of a backward pass (`put`), so that each can
/// be freed at once, or gives the place to write them to (`place`), and reduces them into the unit's gradient
/// shard.
///
/// Where the unit is cut over ranks they are laid into the flat input of the reduction, for which the last
/// unit's reduction is waited for; on one rank they go straight to the shard.
class GradientSink {
 public:
  /// `network` must be trainable (kInternal) and outlive this object. No communication.
  GradientSink(ShardedNetwork& network, int unit);
  GradientSink(const GradientSink&) = delete;
  GradientSink& operator=(const GradientSink&) = delete;

  /// Gradient of parameter `param`, shaped as in Gathered, in any order; several of one parameter add up.
  /// Parameters without one, or with an undefined one, count as zero.
  void put(int param, const at::Tensor& gradient);

  struct Place {
    at::Tensor gradient;  ///< shaped as in Gathered, of the network's wide_type
    bool adds = false;    ///< whether to add to what it holds, else to overwrite that
  };
  /// Instead of `put`: where to write the gradient of `param` before the next call. Valid until finish.
  Place place(int param);

  /// Adds the sum over ranks to the unit's gradient shard: over the shard group for blocks of parameters with
  /// a split dimension, over the copy group for those that all tensor ranks share, of which each rank gives
  /// what its own tokens and blocks contribute. Once, after the last put and place. The sum may be under way
  /// when the call returns: the shard has it after the buffers' finish_reductions. Collective over: the copy
  /// group.
  void finish();

 private:
  void open();
  void zero_padding();

  ShardedNetwork& network_;
  const int unit_;
  GatherBuffers::ReduceSlot* slot_ = nullptr;  // null: straight to the shard
  std::vector<at::Tensor> flat_;               // of each part; empty until the first gradient is there
  std::vector<at::Tensor> targets_;            // of each parameter, views of them
  std::vector<bool> holds_;                    // each target, a value to add to
};

}  // namespace tmd::sharding
