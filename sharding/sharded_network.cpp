#include "sharding/sharded_network.h"

#include <chrono>

#include <ATen/ATen.h>

#include "base/error.h"
#include "sharding/memory_counter.h"

namespace tmd::sharding {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The first `elements` of a byte buffer, from byte `begin` on, in another type.
at::Tensor typed(const at::Tensor& buffer, int64_t begin, int64_t elements, at::ScalarType type) {
  return buffer.narrow(0, begin, elements * static_cast<int64_t>(at::elementSize(type))).view(type);
}

void zero_range(UnitShard& shard, const FlatLayout& layout, int64_t begin, int64_t end) {
  if (shard.master.defined()) {
    shard.master.narrow(0, begin, end - begin).zero_();
    return;
  }
  for (size_t i = 0; i < shard.parts.size(); ++i) {
    const FlatPart& part = layout.parts()[i];
    const int64_t first = std::max(begin, part.shard_begin);
    const int64_t last = std::min(end, part.shard_begin + part.shard_elements);
    if (first < last) shard.parts[i].narrow(0, first - part.shard_begin, last - first).zero_();
  }
}

// What lies between the segments is padding: it is gathered and stepped, so it must be finite.
void zero_padding(UnitShard& shard, const FlatLayout& layout) {
  int64_t end = 0;
  for (const ShardSegment& segment : shard.segments) {
    zero_range(shard, layout, end, segment.shard_offset);
    end = segment.shard_offset + segment.slice.elements();
  }
  zero_range(shard, layout, end, layout.shard_elements());
}

}  // namespace

void GatherBuffers::reserve(const Sizes& sizes) {
  const auto grow = [this](at::Tensor& buffer, int64_t bytes, MemoryItem item) {
    if (buffer.defined() && buffer.numel() >= bytes) return;
    const MemoryTag tag(item);
    buffer = at::empty({bytes}, at::TensorOptions(at::kByte).device(device_));
  };
  grow(gathered_, sizes.gathered, MemoryItem::kGathered);
  grow(staging_, sizes.staging, MemoryItem::kGathered);
  grow(gradient_, sizes.gradient, MemoryItem::kCommunication);
  grow(gradient_shard_, sizes.gradient_shard, MemoryItem::kCommunication);
}

void GatherBuffers::take() {
  ensure(!is_taken_, "one unit of the networks that share buffers is gathered at a time");
  is_taken_ = true;
}

at::Tensor UnitShard::place(const ShardSegment& segment, const FlatLayout& layout) const {
  if (master.defined()) return master.narrow(0, segment.shard_offset, segment.slice.elements());
  const int64_t begin = segment.shard_offset - layout.parts()[segment.part].shard_begin;
  return parts[segment.part].narrow(0, begin, segment.slice.elements());
}

ShardedNetwork::ShardedNetwork(std::string name, std::vector<UnitSpec> units, const Mesh& mesh,
                               at::ScalarType type, bool trainable, GatherBuffers& buffers)
    : name_(std::move(name)),
      specs_(std::move(units)),
      mesh_(mesh),
      type_(type),
      trainable_(trainable),
      buffers_(buffers) {
  for (const UnitSpec& unit : specs_) add_unit(unit);
}

void ShardedNetwork::add_unit(const UnitSpec& unit) {
  const int shards = mesh_.shard_group().size();
  const bool casts = type_ != wide_type();
  const FlatLayout& layout = layouts_.emplace_back(unit, shards, casts);
  UnitShard& shard = shards_.emplace_back();
  shard.segments = layout.segments(unit, mesh_.shard_group().rank());
  const at::TensorOptions wide = at::TensorOptions(wide_type()).device(device());
  if (trainable_) {
    const MemoryTag tag(MemoryItem::kGradients);
    shard.gradient = at::zeros({layout.shard_elements()}, wide);
  }
  const MemoryTag tag(MemoryItem::kWeights);
  if (trainable_ || !casts) shard.master = at::empty({layout.shard_elements()}, wide);
  if (!casts) {
    shard.parts = split(shard.master, static_cast<int>(shards_.size()) - 1);
  } else if (!trainable_) {
    for (const FlatPart& part : layout.parts()) {
      shard.parts.push_back(at::empty({part.shard_elements}, wide.dtype(part_type(part))));
    }
  }
  zero_padding(shard, layout);
  reserve_buffers(layout, shards, casts);
}

void ShardedNetwork::reserve_buffers(const FlatLayout& layout, int shards, bool casts) {
  const auto wide_bytes = static_cast<int64_t>(at::elementSize(wide_type()));
  GatherBuffers::Sizes sizes;
  if (shards > 1 || (casts && trainable_)) {
    for (const FlatPart& part : layout.parts()) {
      const int64_t bytes = trainable_ ? wide_bytes : static_cast<int64_t>(at::elementSize(part_type(part)));
      sizes.gathered += part.elements * bytes;
    }
  }
  if (casts && trainable_) sizes.staging = layout.shard_elements() * wide_bytes;
  if (shards > 1 && trainable_) {
    sizes.gradient = layout.elements() * wide_bytes;
    sizes.gradient_shard = layout.shard_elements() * wide_bytes;
  }
  buffers_.reserve(sizes);
}

int ShardedNetwork::unit(const std::string& name) const {
  for (int i = 0; i < units(); ++i) {
    if (specs_[i].name == name) return i;
  }
  throw Error(ErrorKind::kInternal, name_ + " has no unit " + name);
}

std::vector<at::Tensor> ShardedNetwork::views(const std::vector<at::Tensor>& parts, int unit) const {
  std::vector<at::Tensor> views;
  const UnitSpec& unit_spec = specs_[unit];
  const FlatLayout& layout = layouts_[unit];
  views.reserve(unit_spec.params.size());
  for (size_t i = 0; i < unit_spec.params.size(); ++i) {
    const ParamSpec& param = unit_spec.params[i];
    const int part = layout.part(static_cast<int>(i));
    const int64_t begin = layout.offset(static_cast<int>(i)) - layout.parts()[part].begin;
    views.push_back(parts[part].narrow(0, begin, param.elements()).view(param.shape));
  }
  return views;
}

std::vector<at::Tensor> ShardedNetwork::split(const at::Tensor& shard, int unit) const {
  std::vector<at::Tensor> parts;
  for (const FlatPart& part : layouts_[unit].parts()) {
    parts.push_back(shard.narrow(0, part.shard_begin, part.shard_elements));
  }
  return parts;
}

std::vector<at::Tensor> ShardedNetwork::gather_parts(const std::vector<at::Tensor>& shards, int unit) {
  comm::Communicator& group = mesh_.shard_group();
  if (group.size() == 1) return shards;
  const auto start = std::chrono::steady_clock::now();
  std::vector<at::Tensor> flat;
  int64_t begin = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const int64_t elements = layouts_[unit].parts()[i].elements;
    flat.push_back(typed(buffers_.gathered(), begin, elements, shards[i].scalar_type()));
    group.all_gather(shards[i], flat.back()).wait();
    begin += static_cast<int64_t>(flat.back().nbytes());
  }
  exposed_.gather_s += seconds_since(start);
  return flat;
}

// Into the staging buffer, or, where nothing is gathered, straight into the gathered one.
std::vector<at::Tensor> ShardedNetwork::cast_parts(int unit) {
  const at::Tensor& buffer = mesh_.shard_group().size() == 1 ? buffers_.gathered() : buffers_.staging();
  std::vector<at::Tensor> parts = split(shards_[unit].master, unit);
  int64_t begin = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    at::Tensor cast = typed(buffer, begin, parts[i].numel(), part_type(layouts_[unit].parts()[i]));
    cast.copy_(parts[i]);
    begin += static_cast<int64_t>(cast.nbytes());
    parts[i] = std::move(cast);
  }
  return parts;
}

ShardedNetwork::Gathered ShardedNetwork::gather(int unit) {
  buffers_.take();
  const at::NoGradGuard no_grad;
  const UnitShard& own = shards_[unit];
  return Gathered(*this, views(gather_parts(own.parts.empty() ? cast_parts(unit) : own.parts, unit), unit));
}

ShardedNetwork::Gathered ShardedNetwork::gather_master(int unit) {
  buffers_.take();
  const at::NoGradGuard no_grad;
  const UnitShard& own = shards_[unit];
  return Gathered(
      *this, views(gather_parts(own.master.defined() ? split(own.master, unit) : own.parts, unit), unit));
}

void ShardedNetwork::reduce(int unit, const std::vector<at::Tensor>& gradients) {
  ensure(trainable_, "gradients of a frozen network are never reduced");
  const at::NoGradGuard no_grad;
  comm::Communicator& group = mesh_.shard_group();
  const FlatLayout& layout = layouts_[unit];
  UnitShard& own = shards_[unit];
  if (group.size() == 1) {
    const std::vector<at::Tensor> targets = views(split(own.gradient, unit), unit);
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (gradients[i].defined()) at::Tensor(targets[i]).add_(gradients[i]);
    }
    return;
  }
  std::vector<at::Tensor> flat;
  for (const FlatPart& part : layout.parts()) {
    flat.push_back(
        typed(buffers_.gradient(), 0, layout.elements(), wide_type()).narrow(0, part.begin, part.elements));
    flat.back().zero_();  // undefined gradients and padding count as zero
  }
  const std::vector<at::Tensor> targets = views(flat, unit);
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (gradients[i].defined()) at::Tensor(targets[i]).copy_(gradients[i]);
  }
  const auto start = std::chrono::steady_clock::now();
  const at::Tensor sum = typed(buffers_.gradient_shard(), 0, layout.shard_elements(), wide_type());
  const std::vector<at::Tensor> sums = split(sum, unit);
  for (size_t i = 0; i < flat.size(); ++i) {
    group.reduce_scatter(flat[i], sums[i], comm::ReduceOp::kSum).wait();
  }
  exposed_.reduce_s += seconds_since(start);
  own.gradient.add_(sum);
}

void ShardedNetwork::reduce_over_replicas() {
  comm::Communicator& group = mesh_.replicate_group();
  if (group.size() == 1) return;
  const auto start = std::chrono::steady_clock::now();
  for (UnitShard& shard : shards_) group.all_reduce(shard.gradient, comm::ReduceOp::kSum).wait();
  exposed_.reduce_s += seconds_since(start);
}

void ShardedNetwork::zero_gradients() {
  for (UnitShard& shard : shards_) shard.gradient.zero_();
}

at::Tensor ShardedNetwork::full_of(const std::string& name, bool gradient) {
  for (int unit = 0; unit < units(); ++unit) {
    for (size_t i = 0; i < specs_[unit].params.size(); ++i) {
      if (specs_[unit].params[i].name != name) continue;
      buffers_.take();
      const at::NoGradGuard no_grad;
      const UnitShard& own = shards_[unit];
      const at::Tensor& whole = gradient ? own.gradient : own.master;
      const auto parts = gather_parts(whole.defined() ? split(whole, unit) : own.parts, unit);
      at::Tensor copy = views(parts, unit)[i].clone();
      buffers_.give_back();
      return copy;
    }
  }
  throw Error(ErrorKind::kInternal, name_ + " has no parameter " + name);
}

at::Tensor ShardedNetwork::full_parameter(const std::string& name) { return full_of(name, false); }

at::Tensor ShardedNetwork::full_gradient(const std::string& name) { return full_of(name, true); }

ShardedNetwork::ExposedTime ShardedNetwork::take_exposed_time() { return std::exchange(exposed_, {}); }

}  // namespace tmd::sharding
