#include "sharding/gather_buffers.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/log.h"
#include "sharding/memory_counter.h"
#include "sharding/sharded_network.h"

namespace tmd::sharding {

void GatherBuffers::Sizes::grow(const Sizes& other) {
  gathered = std::max(gathered, other.gathered);
  staging = std::max(staging, other.staging);
  gradient = std::max(gradient, other.gradient);
  gradient_shard = std::max(gradient_shard, other.gradient_shard);
}

void GatherBuffers::reserve(const Sizes& sizes) {
  const auto grow = [this](at::Tensor& buffer, int64_t bytes, MemoryItem item) {
    if (buffer.defined() && buffer.numel() >= bytes) return;
    const MemoryTag tag(item);
    buffer = at::empty({bytes}, at::TensorOptions(at::kByte).device(device_));
  };
  for (GatherSlot& slot : gathers_) {
    grow(slot.gathered, sizes.gathered, MemoryItem::kGathered);
    grow(slot.staging, sizes.staging, MemoryItem::kGathered);
  }
  for (ReduceSlot& slot : reductions_) {
    grow(slot.gradient, sizes.gradient, MemoryItem::kCommunication);
    grow(slot.shard, sizes.gradient_shard, MemoryItem::kCommunication);
  }
}

int64_t GatherBuffers::bytes() const {
  int64_t bytes = 0;
  const auto add = [&bytes](const at::Tensor& buffer) { bytes += buffer.defined() ? buffer.numel() : 0; };
  for (const GatherSlot& slot : gathers_) add(slot.gathered), add(slot.staging);
  for (const ReduceSlot& slot : reductions_) add(slot.gradient), add(slot.shard);
  return bytes;
}

void GatherBuffers::begin_phase(const std::string& name) {
  drop_ahead();  // of a phase that an exception has left
  in_phase_ = true;
  ++pass_;
  phase_ = name;
  order_.clear();
  const auto found = recorded_.find(name);
  expected_ = found == recorded_.end() ? nullptr : &found->second;
  gather_ahead();
}

void GatherBuffers::end_phase() {
  drop_ahead();
  if (!expected_ || *expected_ != order_) {
    if (expected_) ++counts_.deviations;
    recorded_[phase_] = order_;
  }
  expected_ = nullptr;
  in_phase_ = false;
  phase_.clear();
}

// Past the first deviation nothing is known about what comes next.
void GatherBuffers::note(UnitId wanted) {
  if (!in_phase_) return;
  order_.push_back(wanted);
  if (!expected_) return;
  const size_t at = order_.size() - 1;
  if (at < expected_->size() && (*expected_)[at] == wanted) return;
  log_debug("phase {}: gather {} is not the recorded one", phase_, at);
  ++counts_.deviations;
  expected_ = nullptr;
}

// Where a rank that stops is found.
void GatherBuffers::mark(UnitId id) const {
  const std::string& unit = id.network->spec(id.unit).name;
  id.network->mesh().world().mark(
      fmt::format("{}{}{} {}", phase_, in_phase_ ? ": " : "", id.network->name(), unit));
}

void GatherBuffers::gather_ahead() {
  if (!expected_ || order_.size() >= expected_->size()) return;
  const UnitId next = (*expected_)[order_.size()];
  GatherSlot& slot = gathers_[1 - current_];
  if (slot.holds == next || gathers_[current_].holds == next) return;
  start(next, slot);
  ++counts_.ahead;
}

void GatherBuffers::start(UnitId id, GatherSlot& slot) {
  slot.holds = id;
  id.network->start_gather(id.unit, slot.gathered, slot.staging, slot.parts, slot.works);
  ++counts_.gathers;
}

void GatherBuffers::drop_ahead() {
  for (GatherSlot& slot : gathers_) {
    for (comm::Work& work : slot.works) work.wait();
    slot.works.clear();
    slot.holds = {};
  }
}

const std::vector<at::Tensor>& GatherBuffers::take(UnitId wanted) {
  ensure(!is_taken_, "one unit of the networks that share buffers is gathered at a time");
  note(wanted);
  mark(wanted);
  ++counts_.uses;
  if (gathers_[current_].holds != wanted) {
    current_ = 1 - current_;
    if (gathers_[current_].holds != wanted) {
      drop_ahead();
      start(wanted, gathers_[current_]);
    }
  }
  GatherSlot& slot = gathers_[current_];
  wanted.network->wait_for(slot.works, &ShardedNetwork::ExposedTime::gather_s);
  is_taken_ = true;
  gather_ahead();
  return slot.parts;
}

// Between phases the parameters may change.
void GatherBuffers::give_back() {
  is_taken_ = false;
  if (!in_phase_) gathers_[current_].holds = {};
}

GatherBuffers::ReduceSlot& GatherBuffers::next_reduction() {
  ReduceSlot& slot = reductions_[next_reduction_];
  next_reduction_ = 1 - next_reduction_;
  finish(slot);
  for (comm::Work& work : std::exchange(slot.works, {})) work.wait();  // of a network that is gone
  return slot;
}

void GatherBuffers::finish(ReduceSlot& slot) {
  if (!slot.holds.network) return;
  ShardedNetwork& network = *std::exchange(slot.holds.network, nullptr);
  network.wait_for(slot.works, &ShardedNetwork::ExposedTime::reduce_s);
  network.add_reduced(slot.holds.unit, slot.shard);
}

// In the order in which they were started.
void GatherBuffers::finish_reductions() {
  finish(reductions_[next_reduction_]);
  finish(reductions_[1 - next_reduction_]);
}

void GatherBuffers::forget(const ShardedNetwork* network) {
  for (GatherSlot& slot : gathers_) {
    if (slot.holds.network == network) slot.holds = {};
  }
  for (ReduceSlot& slot : reductions_) {
    if (slot.holds.network == network) slot.holds = {};
  }
  std::erase_if(recorded_, [&](const auto& phase) {
    return std::ranges::any_of(phase.second, [&](const UnitId& id) { return id.network == network; });
  });
}

at::Tensor GradientArena::get(int64_t elements, at::ScalarType type) {
  const int64_t bytes = elements * static_cast<int64_t>(at::elementSize(type));
  if (!memory_.defined() || memory_.numel() < bytes) {
    memory_ = at::empty({bytes}, at::TensorOptions(at::kByte).device(device_));
  }
  memory_.zero_();
  return memory_.narrow(0, 0, bytes).view(type);
}

}  // namespace tmd::sharding
