#include "sharding/adamw.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <type_traits>

#include <ATen/ATen.h>

#include "comm/agree.h"
#include "sharding/adamw_kernels.h"
#include "sharding/cpu_kernels.h"
#include "sharding/device_kernels.h"
#include "sharding/kernel_place.h"
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

// Where the step leaves the new weights of a segment rounded, for publish; null where they are not gathered
// in bfloat16, or are cast on the way.
Bfloat16* rounded_copy(const ShardedNetwork& network, int unit, const ShardSegment& segment) {
  if (!network.has_pieces()) return nullptr;
  const at::Tensor piece = network.own_piece(unit, segment.part);
  if (piece.scalar_type() != at::kBFloat16) return nullptr;
  const int64_t at = segment.shard_offset - network.layout(unit).parts()[segment.part].piece_begin;
  return static_cast<Bfloat16*>(element(piece, at));
}

void step_on_host(const std::vector<AdamWSegment>& segments) {
  struct Block {
    const AdamWSegment* segment;
    int64_t begin;
  };
  std::vector<Block> blocks;
  for (const AdamWSegment& segment : segments) {
    for (int64_t begin = 0; begin < segment.range.n; begin += kBlock) blocks.push_back({&segment, begin});
  }
  run_tasks(static_cast<int64_t>(blocks.size()), kBlock, [&](int64_t i) {
    const AdamWRange& whole = blocks[i].segment->range;
    const int64_t begin = blocks[i].begin, bytes = begin * (whole.is_double ? 8 : 4);
    const auto moved = [bytes](auto* pointer) -> decltype(pointer) {
      if (!pointer) return nullptr;
      using Byte =
          std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(pointer)>>, const char, char>;
      return static_cast<Byte*>(pointer) + bytes;
    };
    kernels().step({.is_double = whole.is_double,
                    .n = std::min(kBlock, whole.n - begin),
                    .weight = moved(whole.weight),
                    .first = moved(whole.first),
                    .second = moved(whole.second),
                    .gradient = moved(whole.gradient),
                    .average = moved(whole.average),
                    .copy = whole.copy ? whole.copy + begin : nullptr},
                   blocks[i].segment->factors);
  });
}

double squares_on_host(const std::vector<at::Tensor>& gradients) {
  struct Range {
    bool is_double;
    const void* begin;
    int64_t n;
  };
  std::vector<Range> ranges;
  for (const at::Tensor& gradient : gradients) {
    for (int64_t at = 0; at < gradient.numel(); at += kBlock) {
      ranges.push_back({gradient.scalar_type() == at::kDouble, element(gradient, at),
                        std::min(kBlock, gradient.numel() - at)});
    }
  }
  std::vector<double> sums(ranges.size());
  run_tasks(static_cast<int64_t>(ranges.size()), kBlock, [&](int64_t i) {
    sums[i] = kernels().sum_of_squares(ranges[i].is_double, ranges[i].begin, ranges[i].n);
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

// The host waits for the number.
double squares_on_device(const std::vector<at::Tensor>& gradients) {
  int64_t count = 0;
  for (const at::Tensor& gradient : gradients) count += device::square_partials(gradient.numel());
  const at::Tensor& like = gradients.front();
  CUstream_st* stream = stream_of(like);
  const at::Tensor partials = at::empty({count + 1}, like.options().dtype(at::kDouble));
  double* next = partials.mutable_data_ptr<double>();
  for (const at::Tensor& gradient : gradients) {
    device::sum_of_squares(gradient.scalar_type() == at::kDouble, gradient.const_data_ptr(), gradient.numel(),
                           next, stream);
    next += device::square_partials(gradient.numel());
  }
  device::sum(partials.const_data_ptr<double>(), count, next, stream);
  return partials[count].item<double>();
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
  std::vector<AdamWSegment> segments;
  for (int unit = 0; unit < network_.units(); ++unit) {
    const UnitShard& shard = network_.shard(unit);
    for (const ShardSegment& segment : shard.segments) {
      const int64_t at = segment.shard_offset;
      segments.push_back({{.is_double = network_.wide_type() == at::kDouble,
                           .n = segment.slice.elements(),
                           .weight = element(shard.master, at),
                           .first = element(first_[unit], at),
                           .second = element(second_[unit], at),
                           .gradient = element(shard.piece_gradient, at),
                           .average = average ? element(average->shard(unit), at) : nullptr,
                           .copy = rounded_copy(network_, unit, segment)},
                          factors_of(network_.spec(unit).params[segment.param], options, gradient_scale,
                                     static_cast<double>(steps_), average_decay)});
    }
  }
  const at::Tensor& place = network_.shard(0).master;
  if (is_on_device(place)) {
    device::adamw_step(segments.data(), static_cast<int64_t>(segments.size()), stream_of(place));
  } else {
    step_on_host(segments);
  }
  network_.publish(/*is_rounded=*/true);
}

double gradient_norm(const std::vector<ShardedNetwork*>& networks) {
  std::vector<at::Tensor> gradients;
  for (const ShardedNetwork* network : networks) {
    for (int unit = 0; unit < network->units(); ++unit)
      gradients.push_back(network->shard(unit).piece_gradient);
  }
  double sum = is_on_device(gradients.front()) ? squares_on_device(gradients) : squares_on_host(gradients);
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
