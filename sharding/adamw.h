#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "sharding/sharded_network.h"

namespace tmd::sharding {

struct AdamWOptions {
  double lr = 1e-5;  ///< of the step, times each parameter's lr_multiplier
  double beta1 = 0.9;
  double beta2 = 0.99;
  double epsilon = 1e-8;
  double weight_decay = 0.01;  ///< decoupled; not applied to parameters whose spec says so
};

class ExponentialAverage;

/// AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) on the shards of one network. Moments have the type
/// of the masters. Per parameter, the spec's learning-rate multiplier and decay switch apply.
class AdamW {
 public:
  /// Moments and step count start at zero. Keeps a reference to `network`, which must be trainable and
  /// outlive it.
  explicit AdamW(ShardedNetwork& network);

  /// One step with the gradient shards g times `gradient_scale` (the clip factor), t counting steps from 1:
  ///   m <- b1 m + (1 - b1) g,  v <- b2 v + (1 - b2) g^2
  ///   w <- w (1 - lr decay) - lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + epsilon)
  /// and, when `average` is given, its shards a of the same units:
  ///   a <- average_decay a + (1 - average_decay) w
  /// All in one pass over memory, on several threads; their number changes no bit. The gradients are not
  /// cleared. Ends with network.publish().
  /// Collective over: the replicate group, if the mesh has two levels.
  void step(const AdamWOptions& options, double gradient_scale, ExponentialAverage* average = nullptr,
            double average_decay = 0);

  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }              ///< when moments are loaded
  at::Tensor& first_moment(int unit) { return first_[unit]; }    ///< as UnitShard::master
  at::Tensor& second_moment(int unit) { return second_[unit]; }  ///< as UnitShard::master

 private:
  ShardedNetwork& network_;
  std::vector<at::Tensor> first_, second_;
  int64_t steps_ = 0;
};

/// Square root of the sum of squares of all gradients of the networks (trainable, at least one, on one mesh),
/// every element counted once, the same on every rank once reduce_over_replicas has run. Infinite or NaN when
/// a gradient is. Squares are added in float64, in blocks of 65536 elements that are added in order: the
/// number of threads changes no bit. Collective over: the state group of the networks.
double gradient_norm(const std::vector<ShardedNetwork*>& networks);

/// Factor that brings a gradient of `norm` to at most `limit`: min(1, limit / (norm + 1e-6)), as PyTorch's
/// clip_grad_norm_; 1 when limit is 0 (= no clipping). An infinite norm gives 0 and NaN gives 1: look at the
/// norm first.
double clip_factor(double norm, double limit);

/// An average of the parameters over the steps, shard by shard, in their type; AdamW::step updates it. The
/// networks that the functions take are the one it was made of, or one with the same units on the same mesh;
/// none is kept.
class ExponentialAverage {
 public:
  /// Starts as a copy of the parameters.
  explicit ExponentialAverage(const ShardedNetwork& network);
  at::Tensor& shard(int unit) { return shards_[unit]; }  ///< as UnitShard::master
  /// Exchanges the network's parameters with the average; calling it twice restores both.
  /// Collective over: the replicate group, if the mesh has two levels.
  void swap(ShardedNetwork& network);

 private:
  std::vector<at::Tensor> shards_;
};

}  // namespace tmd::sharding
