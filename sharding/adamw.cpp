#include "sharding/adamw.h"

#include <cmath>

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

#include "comm/agree.h"
#include "sharding/memory_counter.h"

namespace tmd::sharding {
namespace {

struct StepFactors {
  double decay;         // 1 - lr * weight_decay
  double step_size;     // lr / (1 - beta1^t)
  double second_scale;  // 1 / sqrt(1 - beta2^t)
};

template <class T>
void step_segment(T* weight, T* first, T* second, const T* gradient, int64_t n, const AdamWOptions& options,
                  const StepFactors& factors, double gradient_scale) {
  const T scale = static_cast<T>(gradient_scale), beta1 = static_cast<T>(options.beta1),
          beta2 = static_cast<T>(options.beta2), one_minus_beta1 = static_cast<T>(1 - options.beta1),
          one_minus_beta2 = static_cast<T>(1 - options.beta2), epsilon = static_cast<T>(options.epsilon),
          decay = static_cast<T>(factors.decay), step_size = static_cast<T>(factors.step_size),
          second_scale = static_cast<T>(factors.second_scale);
  for (int64_t i = 0; i < n; ++i) {
    const T g = gradient[i] * scale;
    first[i] = beta1 * first[i] + one_minus_beta1 * g;
    second[i] = beta2 * second[i] + one_minus_beta2 * g * g;
    const T denominator = std::sqrt(second[i]) * second_scale + epsilon;
    weight[i] = weight[i] * decay - step_size * first[i] / denominator;
  }
}

}  // namespace

AdamW::AdamW(ShardedNetwork& network) : network_(network) {
  const MemoryTag tag(MemoryItem::kMoments);
  for (int unit = 0; unit < network.units(); ++unit) {
    first_.push_back(at::zeros_like(network.shard(unit).master));
    second_.push_back(at::zeros_like(network.shard(unit).master));
  }
}

void AdamW::step(const AdamWOptions& options, double gradient_scale) {
  ++steps_;
  const double t = static_cast<double>(steps_);
  for (int unit = 0; unit < network_.units(); ++unit) {
    UnitShard& shard = network_.shard(unit);
    for (const ShardSegment& segment : shard.segments) {
      const ParamSpec& param = network_.spec(unit).params[segment.param];
      const double lr = options.lr * param.lr_multiplier;
      const StepFactors factors{.decay = param.weight_decay ? 1 - lr * options.weight_decay : 1.0,
                                .step_size = lr / (1 - std::pow(options.beta1, t)),
                                .second_scale = 1 / std::sqrt(1 - std::pow(options.beta2, t))};
      AT_DISPATCH_FLOATING_TYPES(network_.wide_type(), "adamw", [&] {
        const int64_t at = segment.shard_offset;
        step_segment(shard.master.data_ptr<scalar_t>() + at, first_[unit].data_ptr<scalar_t>() + at,
                     second_[unit].data_ptr<scalar_t>() + at, shard.gradient.data_ptr<scalar_t>() + at,
                     segment.slice.elements(), options, factors, gradient_scale);
      });
    }
  }
}

// Elements whose squares are summed in the gradient's own type; pieces are added in double.
constexpr int64_t kNormPiece = 1 << 16;

double gradient_norm(const std::vector<ShardedNetwork*>& networks) {
  double sum = 0;
  for (const ShardedNetwork* network : networks) {
    for (int unit = 0; unit < network->units(); ++unit) {
      for (const at::Tensor& piece : network->shard(unit).gradient.split(kNormPiece)) {
        sum += at::dot(piece, piece).item<double>();
      }
    }
  }
  comm::sum(networks.front()->mesh().shard_group(), std::span<double>(&sum, 1));
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

void ExponentialAverage::update(const ShardedNetwork& network, double decay) {
  for (int unit = 0; unit < network.units(); ++unit) {
    shards_[unit].mul_(decay).add_(network.shard(unit).master, 1 - decay);
  }
}

void ExponentialAverage::swap(ShardedNetwork& network) {
  for (int unit = 0; unit < network.units(); ++unit) {
    const at::Tensor kept = shards_[unit].clone();
    shards_[unit].copy_(network.shard(unit).master);
    network.shard(unit).master.copy_(kept);
  }
}

}  // namespace tmd::sharding
