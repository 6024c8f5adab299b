#include "sharding/gradient_sink.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "base/error.h"
#include "sharding/sharded_network.h"

namespace tmd::sharding {

GradientSink::GradientSink(ShardedNetwork& network, int unit) : network_(network), unit_(unit) {
  ensure(network.trainable(), "a frozen network takes no gradients");
}

void GradientSink::open() {
  bool holds = false;
  if (network_.communicates()) {
    slot_ = &network_.buffers_.next_reduction();
    flat_ = network_.flat_gradient(unit_, slot_->gradient);
  } else {
    const UnitShard& shard = network_.shard(unit_);
    flat_ = network_.split(shard.gradient, unit_);
    holds = shard.has_gradient;
  }
  targets_ = network_.views(flat_, unit_);
  holds_.assign(targets_.size(), holds);
  if (!holds) zero_padding();
}

void GradientSink::zero_padding() {
  const std::vector<FlatPart>& parts = network_.layout(unit_).parts();
  for (const auto& [begin, count] : network_.layout(unit_).padding()) {
    for (size_t i = 0; i < parts.size(); ++i) {
      const bool is_here = begin >= parts[i].begin && begin < parts[i].begin + parts[i].elements;
      if (is_here) flat_[i].narrow(0, begin - parts[i].begin, count).zero_();
    }
  }
}

GradientSink::Place GradientSink::place(int param) {
  if (flat_.empty()) open();
  const bool adds = holds_[param];
  holds_[param] = true;
  return {targets_[param], adds};
}

void GradientSink::put(int param, const at::Tensor& gradient) {
  if (!gradient.defined()) return;
  const at::NoGradGuard no_grad;
  const Place place = this->place(param);
  if (place.adds) {
    network_.buffers_.add_cast(place.gradient, gradient);
  } else {
    place.gradient.copy_(gradient);
  }
}

void GradientSink::finish() {
  const at::NoGradGuard no_grad;
  if (flat_.empty()) open();
  for (size_t i = 0; i < targets_.size(); ++i) {
    if (!holds_[i]) targets_[i].zero_();
  }
  if (slot_) {
    network_.start_reduction(unit_, flat_, *slot_);
  } else {
    network_.shard(unit_).has_gradient = true;
  }
}

}  // namespace tmd::sharding
