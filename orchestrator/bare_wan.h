#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "model/wan_config.h"
#include "sharding/sharded_network.h"

namespace tmd::orchestrator {

/// The Wan transformer as one would write it without a sharding engine: the block functions of the model
/// called one after the other on parameters that are there, differentiated by autograd, with all activations
/// kept. What the engine costs is measured against it (`tmd bench step --mode bare`).
class BareWan {
 public:
  /// The parameters are those of `network`, one memory with it. Throws kConfig unless `network` is trained in
  /// float32 or float64 on one rank. Keeps a reference.
  BareWan(const model::WanConfig& config, sharding::ShardedNetwork& network);

  /// As model::WanDit::forward: latent [B, C, T, H, W], time [B] float64, text [B, S, text_dim].
  at::Tensor forward(const at::Tensor& latent, const at::Tensor& time, const at::Tensor& text) const;

  /// Moves the gradients of the backward passes since the last call to the network, for its optimizer.
  void hand_over_gradients();

 private:
  model::WanConfig config_;
  sharding::ShardedNetwork& network_;
  std::vector<std::vector<at::Tensor>> params_;  // of each unit, leaves of the graph
};

}  // namespace tmd::orchestrator
