#include "sharding/gather_buffers.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/log.h"
#include "sharding/flat_casts.h"
#include "sharding/kernel_place.h"
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
  grow(reduction_.gradient, sizes.gradient, MemoryItem::kCommunication);
  sum_bytes_ = std::max(sum_bytes_, sizes.gradient_shard);
  if (expects_sums_) sum_buffer(reduction_);
}

int64_t GatherBuffers::bytes() const {
  int64_t bytes = 0;
  const auto add = [&bytes](const at::Tensor& buffer) { bytes += buffer.defined() ? buffer.numel() : 0; };
  for (const GatherSlot& slot : gathers_) add(slot.gathered), add(slot.staging);
  add(reduction_.gradient), add(reduction_.shard);
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

at::Tensor GatherBuffers::lend(int64_t bytes) {
  GatherSlot& slot = gathers_[current_];
  const bool is_free = !is_taken_ && !in_phase_ && slot.gathered.defined() && slot.gathered.numel() >= bytes;
  if (!is_free) return {};
  slot.holds = {};
  is_taken_ = true;
  return slot.gathered.narrow(0, 0, bytes);
}

GatherBuffers::ReduceSlot& GatherBuffers::next_reduction() {
  finish_reductions();
  return reduction_;
}

const at::Tensor& GatherBuffers::sum_buffer(ReduceSlot& slot) {
  if (!slot.shard.defined() || slot.shard.numel() < sum_bytes_) {
    const MemoryTag tag(MemoryItem::kCommunication);
    slot.shard = at::empty({sum_bytes_}, at::TensorOptions(at::kByte).device(device_));
  }
  return slot.shard;
}

void GatherBuffers::add_cast(const at::Tensor& target, const at::Tensor& values) {
  constexpr int64_t kPiece = 1 << 14;  // stays in the cache
  if (is_on_device(target)) return add_on_device(target, values);
  if (target.scalar_type() == values.scalar_type() || target.is_meta()) {
    at::Tensor(target).add_(values);
    return;
  }
  if (!cast_.defined()) {
    const MemoryTag tag(MemoryItem::kCommunication);
    cast_ = at::empty({kPiece}, target.options());
  }
  const at::Tensor to = target.view({-1}), from = values.reshape({-1});
  for (int64_t at = 0; at < to.numel(); at += kPiece) {
    const int64_t count = std::min(kPiece, to.numel() - at);
    const at::Tensor piece = cast_.narrow(0, 0, count);
    piece.copy_(from.narrow(0, at, count));
    to.narrow(0, at, count).add_(piece);
  }
}

void GatherBuffers::finish_reductions() {
  if (!reduction_.holds.network) {
    for (comm::Work& work : std::exchange(reduction_.works, {})) work.wait();  // of a network that is gone
    return;
  }
  ShardedNetwork& network = *std::exchange(reduction_.holds.network, nullptr);
  network.wait_for(reduction_.works, &ShardedNetwork::ExposedTime::reduce_s);
  if (reduction_.adds) network.add_reduced(reduction_.holds.unit, reduction_.shard);
}

void GatherBuffers::forget(const ShardedNetwork* network) {
  for (GatherSlot& slot : gathers_) {
    if (slot.holds.network == network) slot.holds = {};
  }
  if (reduction_.holds.network == network) reduction_.holds = {};
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
