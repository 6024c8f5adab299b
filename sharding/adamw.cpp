#include "sharding/adamw.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>

#include <ATen/ATen.h>

#include "comm/agree.h"
#include "sharding/adamw_kernels.h"
#include "sharding/cpu_kernels.h"
#include "sharding/memory_counter.h"

namespace tmd::sharding {
namespace {

// Elements of a shard that one task works on: a quarter of a megabyte of each tensor in float32.
constexpr int64_t kBlock = 1 << 16;

const AdamWKernels& kernels() {
  return kernels_for_this_cpu(plain::kAdamWKernels, avx2::kAdamWKernels, avx512::kAdamWKernels);
}

// Where element `at` of a flat tensor lies.
void* element(const at::Tensor& flat, int64_t at) {
  return static_cast<char*>(flat.data_ptr()) + at * static_cast<int64_t>(flat.element_size());
}

struct Block {
  AdamWRange range;
  const AdamWFactors* factors;
};

AdamWFactors factors_of(const ParamSpec& param, const AdamWOptions& options, double gradient_scale, double t,
                        double average_decay) {
  const double lr = options.lr * param.lr_multiplier;
  return {.gradient_scale = gradient_scale,
          .beta1 = options.beta1,
          .beta2 = options.beta2,
          .epsilon = options.epsilon,
          .decay = param.weight_decay ? 1 - lr * options.weight_decay : 1.0,
          .step_size = lr / (1 - std::pow(options.beta1, t)),
          .second_scale = 1 / std::sqrt(1 - std::pow(options.beta2, t)),
          .average_decay = average_decay};
}

}  // namespace

AdamW::AdamW(ShardedNetwork& network) : network_(network) {
  const MemoryTag tag(MemoryItem::kMoments);
  for (int unit = 0; unit < network.units(); ++unit) {
    first_.push_back(at::zeros_like(network.shard(unit).master));
    second_.push_back(at::zeros_like(network.shard(unit).master));
  }
}

void AdamW::step(const AdamWOptions& options, double gradient_scale, ExponentialAverage* average,
                 double average_decay) {
  ++steps_;
  std::deque<AdamWFactors> factors;  // one for each segment, in one place
  std::vector<Block> blocks;
  for (int unit = 0; unit < network_.units(); ++unit) {
    const UnitShard& shard = network_.shard(unit);
    for (const ShardSegment& segment : shard.segments) {
      factors.push_back(factors_of(network_.spec(unit).params[segment.param], options, gradient_scale,
                                   static_cast<double>(steps_), average_decay));
      for (int64_t done = 0; done < segment.slice.elements(); done += kBlock) {
        const int64_t at = segment.shard_offset + done;
        blocks.push_back({{.is_double = network_.wide_type() == at::kDouble,
                           .n = std::min(kBlock, segment.slice.elements() - done),
                           .weight = element(shard.master, at),
                           .first = element(first_[unit], at),
                           .second = element(second_[unit], at),
                           .gradient = element(shard.piece_gradient, at),
                           .average = average ? element(average->shard(unit), at) : nullptr},
                          &factors.back()});
      }
    }
  }
  run_tasks(static_cast<int64_t>(blocks.size()), kBlock,
            [&](int64_t i) { kernels().step(blocks[i].range, *blocks[i].factors); });
  network_.publish();
}

double gradient_norm(const std::vector<ShardedNetwork*>& networks) {
  struct Range {
    bool is_double;
    const void* begin;
    int64_t n;
  };
  std::vector<Range> ranges;
  for (const ShardedNetwork* network : networks) {
    for (int unit = 0; unit < network->units(); ++unit) {
      const at::Tensor& gradient = network->shard(unit).piece_gradient;
      for (int64_t at = 0; at < gradient.numel(); at += kBlock) {
        ranges.push_back({gradient.scalar_type() == at::kDouble, element(gradient, at),
                          std::min(kBlock, gradient.numel() - at)});
      }
    }
  }
  std::vector<double> sums(ranges.size());
  run_tasks(static_cast<int64_t>(ranges.size()), kBlock, [&](int64_t i) {
    sums[i] = kernels().sum_of_squares(ranges[i].is_double, ranges[i].begin, ranges[i].n);
  });
  double sum = std::accumulate(sums.begin(), sums.end(), 0.0);
  comm::sum(networks.front()->state_group(), std::span<double>(&sum, 1));
  return std::sqrt(sum);
}

double clip_factor(double norm, double limit) {
  if (limit <= 0) return 1;
  return std::min(1.0, limit / (norm + 1e-6));
}

ExponentialAverage::ExponentialAverage(const ShardedNetwork& network) {
  const MemoryTag tag(MemoryItem::kAverage);
  for (int unit = 0; unit < network.units(); ++unit) shards_.push_back(network.shard(unit).master.clone());
}

void ExponentialAverage::swap(ShardedNetwork& network) {
  for (int unit = 0; unit < network.units(); ++unit) {
    const at::Tensor kept = shards_[unit].clone();
    shards_[unit].copy_(network.shard(unit).master);
    network.shard(unit).master.copy_(kept);
  }
  network.publish();
}

}  // namespace tmd::sharding
