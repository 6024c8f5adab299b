#include "sharding/gradient_sink.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "sharding/sharded_network.h"

namespace tmd::sharding {

GradientSink::GradientSink(ShardedNetwork& network, int unit)
    : network_(network), unit_(unit), is_there_(network.spec(unit).params.size(), false) {
  ensure(network.trainable(), "a frozen network takes no gradients");
}

void GradientSink::open() {
  if (network_.communicates()) {
    slot_ = &network_.buffers_.next_reduction();
    flat_ = network_.flat_gradient(unit_, slot_->gradient);
  } else {
    const UnitShard& shard = network_.shard(unit_);
    flat_ = network_.split(shard.gradient, unit_);
    adds_ = shard.has_gradient;
  }
  targets_ = network_.views(flat_, unit_);
}

void GradientSink::put(int param, const at::Tensor& gradient) {
  if (!gradient.defined()) return;
  const at::NoGradGuard no_grad;
  if (flat_.empty()) open();
  ensure(!is_there_[param], "a parameter has one gradient in a backward pass");
  is_there_[param] = true;
  if (adds_) {
    network_.buffers_.add_cast(targets_[param], gradient);
  } else {
    targets_[param].copy_(gradient);
  }
}

void GradientSink::finish() {
  const at::NoGradGuard no_grad;
  if (flat_.empty()) open();
  if (!adds_) {
    for (size_t i = 0; i < targets_.size(); ++i) {
      if (!is_there_[i]) targets_[i].zero_();
    }
    const std::vector<FlatPart>& parts = network_.layout(unit_).parts();
    for (const auto& [begin, count] : network_.layout(unit_).padding()) {
      for (size_t i = 0; i < parts.size(); ++i) {
        const bool is_here = begin >= parts[i].begin && begin < parts[i].begin + parts[i].elements;
        if (is_here) flat_[i].narrow(0, begin - parts[i].begin, count).zero_();
      }
    }
  }
  if (slot_) {
    network_.start_reduction(unit_, flat_, *slot_);
  } else {
    network_.shard(unit_).has_gradient = true;
  }
}

}  // namespace tmd::sharding
