#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "sharding/sharded_network.h"

namespace tmd::sharding {

struct AdamWOptions {
  double lr = 1e-5;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double epsilon = 1e-8;
  double weight_decay = 0.01;  ///< decoupled; not applied to parameters whose spec says so
};

/// AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) on the shards of one network. Moments have the type of
/// the parameters. Per parameter, the spec's learning-rate multiplier and decay switch apply.
class AdamW {
 public:
  explicit AdamW(ShardedNetwork& network);

  /// One step with the gradient shards times `gradient_scale` (the clip factor). `options.lr` is the rate of
  /// this step.
  void step(const AdamWOptions& options, double gradient_scale);

  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }
  at::Tensor& first_moment(int unit) { return first_[unit]; }    ///< [shard_elements]
  at::Tensor& second_moment(int unit) { return second_[unit]; }  ///< [shard_elements]

 private:
  ShardedNetwork& network_;
  std::vector<at::Tensor> first_, second_;
  int64_t steps_ = 0;
};

/// Square root of the sum of squares of all gradients of the networks, every element counted once, the same on
/// every rank. Infinite or NaN when a gradient is. Collective over: the shard group.
double gradient_norm(const std::vector<ShardedNetwork*>& networks);

/// Factor that brings a gradient of `norm` to at most `limit`: min(1, limit / (norm + 1e-6)), as PyTorch's
/// clip_grad_norm_; 1 when limit is 0 (= no clipping).
double clip_factor(double norm, double limit);

/// ema <- decay * ema + (1 - decay) * parameters, shard by shard.
class ExponentialAverage {
 public:
  /// Starts as a copy of the parameters.
  explicit ExponentialAverage(const ShardedNetwork& network);
  void update(const ShardedNetwork& network, double decay);
  at::Tensor& shard(int unit) { return shards_[unit]; }
  /// Exchanges the network's parameters with the average; calling it twice restores both.
  void swap(ShardedNetwork& network);

 private:
  std::vector<at::Tensor> shards_;
};

}  // namespace tmd::sharding
