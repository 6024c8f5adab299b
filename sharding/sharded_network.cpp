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

at::Tensor UnitShard::place(const ShardSegment& segment, const FlatLayout& layout) const {
  if (master.defined()) return master.narrow(0, segment.shard_offset, segment.slice.elements());
  const int64_t begin = segment.shard_offset - layout.parts()[segment.part].shard_begin;
  return parts[segment.part].narrow(0, begin, segment.slice.elements());
}

GatherBuffers::Sizes buffer_sizes(const FlatLayout& layout, at::ScalarType type, bool trainable,
                                  bool communicates) {
  const at::ScalarType wide_type = type == at::kBFloat16 ? at::kFloat : type;
  const bool casts = trainable && type != wide_type;
  GatherBuffers::Sizes sizes;
  for (const FlatPart& part : layout.parts()) {
    const auto bytes = static_cast<int64_t>(at::elementSize(part.wide ? at::kFloat : type));
    if (communicates || casts) sizes.gathered += part.elements * bytes;
    if (communicates && casts) sizes.staging += part.shard_elements * bytes;
  }
  if (communicates && trainable) {
    const auto wide_bytes = static_cast<int64_t>(at::elementSize(wide_type));
    sizes.gradient = layout.elements() * wide_bytes;
    sizes.gradient_shard = layout.shard_elements() * wide_bytes;
  }
  return sizes;
}

ShardedNetwork::ShardedNetwork(std::string name, std::vector<UnitSpec> units, const Mesh& mesh,
                               at::ScalarType type, bool trainable, GatherBuffers& buffers,
                               GradientArena* arena)
    : name_(std::move(name)),
      specs_(std::move(units)),
      mesh_(mesh),
      type_(type),
      trainable_(trainable),
      buffers_(buffers) {
  for (const UnitSpec& unit : specs_) add_unit(unit);
  if (trainable_) allocate_gradients(arena);
}

void ShardedNetwork::add_unit(const UnitSpec& unit) {
  const bool casts = type_ != wide_type();
  const FlatLayout& layout = layouts_.emplace_back(unit, mesh_.extents(), casts);
  UnitShard& shard = shards_.emplace_back();
  shard.segments = layout.segments(unit, mesh_.copy_group().rank());
  const MemoryTag tag(MemoryItem::kWeights);
  const at::TensorOptions wide = at::TensorOptions(wide_type()).device(device());
  if (trainable_ || !casts) shard.master = at::empty({layout.shard_elements()}, wide);
  if (!casts) {
    shard.parts = split(shard.master, static_cast<int>(shards_.size()) - 1);
  } else if (!trainable_) {
    for (const FlatPart& part : layout.parts()) {
      shard.parts.push_back(at::empty({part.shard_elements}, wide.dtype(part_type(part))));
    }
  }
  zero_padding(shard, layout);
  buffers_.reserve(buffer_sizes(layout));
}

void ShardedNetwork::allocate_gradients(GradientArena* arena) {
  int64_t elements = 0;
  for (const FlatLayout& layout : layouts_) elements += layout.shard_elements();
  const MemoryTag tag(MemoryItem::kGradients);
  at::Tensor rest = arena ? arena->get(elements, wide_type())
                          : at::zeros({elements}, at::TensorOptions(wide_type()).device(device()));
  for (size_t i = 0; i < shards_.size(); ++i) {
    const int64_t count = layouts_[i].shard_elements();
    shards_[i].gradient = rest.narrow(0, 0, count);
    rest = rest.narrow(0, count, rest.numel() - count);
  }
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
    const std::vector<int64_t> shape = param.block_shape(mesh_.extents().tensor);
    views.push_back(parts[part].narrow(0, begin, param.block_elements(mesh_.extents().tensor)).view(shape));
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

// Into `buffer`, part by part.
std::vector<at::Tensor> ShardedNetwork::cast_parts(int unit, const at::Tensor& buffer) const {
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

void ShardedNetwork::start_gather_of(const std::vector<at::Tensor>& shards, int unit,
                                     const at::Tensor& gathered, std::vector<at::Tensor>& parts,
                                     std::vector<comm::Work>& works) {
  parts.clear();
  int64_t begin = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const FlatPart& part = layouts_[unit].parts()[i];
    parts.push_back(typed(gathered, begin, part.elements, shards[i].scalar_type()));
    works.push_back(group_of(part).all_gather(shards[i], parts.back()));
    begin += static_cast<int64_t>(parts.back().nbytes());
  }
}

void ShardedNetwork::start_gather(int unit, const at::Tensor& gathered, const at::Tensor& staging,
                                  std::vector<at::Tensor>& parts, std::vector<comm::Work>& works) {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor>& own = shards_[unit].parts;
  if (communicates()) {
    start_gather_of(own.empty() ? cast_parts(unit, staging) : own, unit, gathered, parts, works);
  } else {
    parts = own.empty() ? cast_parts(unit, gathered) : own;  // straight to where it is used
  }
}

void ShardedNetwork::wait_for(std::vector<comm::Work>& works, double ExposedTime::*counter) {
  const auto start = std::chrono::steady_clock::now();
  for (comm::Work& work : works) work.wait();
  works.clear();
  exposed_.*counter += seconds_since(start);
}

ShardedNetwork::Gathered ShardedNetwork::gather(int unit) {
  const at::NoGradGuard no_grad;
  if (keeps(unit)) return Gathered(nullptr, views(kept_parts(unit), unit));
  return Gathered(this, views(buffers_.take({this, unit}), unit));
}

void ShardedNetwork::keep_units(int first_unit, int count) {
  const MemoryTag tag(MemoryItem::kGathered);
  kept_.resize(specs_.size());
  for (int unit = first_unit; unit < first_unit + count; ++unit) {
    const GatherBuffers::Sizes sizes = buffer_sizes(layouts_[unit]);
    const at::TensorOptions bytes = at::TensorOptions(at::kByte).device(device());
    kept_[unit] = {.is_kept = true,
                   .gathered = at::empty({sizes.gathered}, bytes),
                   .staging = at::empty({sizes.staging}, bytes),
                   .parts = {}};
  }
}

const std::vector<at::Tensor>& ShardedNetwork::kept_parts(int unit) {
  KeptUnit& kept = kept_[unit];
  if (kept.pass >= 0 && kept.pass == buffers_.pass()) return kept.parts;
  std::vector<comm::Work> works;
  start_gather(unit, kept.gathered, kept.staging, kept.parts, works);
  wait_for(works, &ExposedTime::gather_s);
  kept.pass = buffers_.pass();
  return kept.parts;
}

std::vector<at::Tensor> ShardedNetwork::gather_whole(const std::vector<at::Tensor>& shards, int unit) {
  if (!communicates()) return shards;
  int64_t bytes = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    bytes += layouts_[unit].parts()[i].elements * static_cast<int64_t>(shards[i].element_size());
  }
  std::vector<at::Tensor> parts;
  std::vector<comm::Work> works;
  start_gather_of(shards, unit, at::empty({bytes}, at::TensorOptions(at::kByte).device(device())), parts,
                  works);
  wait_for(works, &ExposedTime::gather_s);
  return parts;
}

ShardedNetwork::Gathered ShardedNetwork::gather_master(int unit) {
  const at::NoGradGuard no_grad;
  const UnitShard& own = shards_[unit];
  return Gathered(
      nullptr, views(gather_whole(own.master.defined() ? split(own.master, unit) : own.parts, unit), unit));
}

void ShardedNetwork::reduce(int unit, const std::vector<at::Tensor>& gradients) {
  ensure(trainable_, "gradients of a frozen network are never reduced");
  const at::NoGradGuard no_grad;
  const FlatLayout& layout = layouts_[unit];
  if (!communicates()) {
    const std::vector<at::Tensor> targets = views(split(shards_[unit].gradient, unit), unit);
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (gradients[i].defined()) at::Tensor(targets[i]).add_(gradients[i]);
    }
    return;
  }
  GatherBuffers::ReduceSlot& slot = buffers_.next_reduction();
  const at::Tensor whole = typed(slot.gradient, 0, layout.elements(), wide_type());
  std::vector<at::Tensor> flat;
  for (const FlatPart& part : layout.parts()) flat.push_back(whole.narrow(0, part.begin, part.elements));
  const std::vector<at::Tensor> targets = views(flat, unit);
  for (size_t i = 0; i < targets.size(); ++i) {
    const bool is_given = i < gradients.size() && gradients[i].defined();
    is_given ? at::Tensor(targets[i]).copy_(gradients[i]) : at::Tensor(targets[i]).zero_();
  }
  for (const auto& [begin, count] : layout.padding()) whole.narrow(0, begin, count).zero_();
  const std::vector<at::Tensor> sums =
      split(typed(slot.shard, 0, layout.shard_elements(), wide_type()), unit);
  for (size_t i = 0; i < flat.size(); ++i) {
    slot.works.push_back(group_of(layout.parts()[i]).reduce_scatter(flat[i], sums[i], comm::ReduceOp::kSum));
  }
  slot.holds = {this, unit};
}

void ShardedNetwork::add_reduced(int unit, const at::Tensor& sum_bytes) {
  const at::NoGradGuard no_grad;
  shards_[unit].gradient.add_(typed(sum_bytes, 0, layouts_[unit].shard_elements(), wide_type()));
}

void ShardedNetwork::reduce_over_replicas() {
  buffers_.finish_reductions();
  comm::Communicator& group = mesh_.replicate_group();
  if (group.size() == 1) return;
  std::vector<comm::Work> works;
  for (UnitShard& shard : shards_) works.push_back(group.all_reduce(shard.gradient, comm::ReduceOp::kSum));
  wait_for(works, &ExposedTime::reduce_s);
}

void ShardedNetwork::zero_gradients() {
  buffers_.finish_reductions();
  for (UnitShard& shard : shards_) shard.gradient.zero_();
}

at::Tensor ShardedNetwork::full_of(const std::string& name, bool gradient) {
  for (int unit = 0; unit < units(); ++unit) {
    for (size_t i = 0; i < specs_[unit].params.size(); ++i) {
      if (specs_[unit].params[i].name != name) continue;
      const at::NoGradGuard no_grad;
      const UnitShard& own = shards_[unit];
      const at::Tensor& shard = gradient ? own.gradient : own.master;
      const auto parts = gather_whole(shard.defined() ? split(shard, unit) : own.parts, unit);
      return whole_parameter(unit, static_cast<int>(i), views(parts, unit)[i]).clone();
    }
  }
  throw Error(ErrorKind::kInternal, name_ + " has no parameter " + name);
}

at::Tensor ShardedNetwork::whole_parameter(int unit, int param, const at::Tensor& block) const {
  const ParamSpec& spec = specs_[unit].params[param];
  comm::Communicator& group = mesh_.tensor_group();
  if (group.size() == 1 || spec.split_dim < 0) return block;
  const at::Tensor blocks = at::empty({group.size() * block.numel()}, block.options());
  group.all_gather(block.contiguous(), blocks).wait();
  std::vector<at::Tensor> pieces;
  for (const at::Tensor& piece : blocks.chunk(group.size())) pieces.push_back(piece.view(block.sizes()));
  return at::cat(pieces, spec.split_dim);
}

at::Tensor ShardedNetwork::full_parameter(const std::string& name) { return full_of(name, false); }

at::Tensor ShardedNetwork::full_gradient(const std::string& name) {
  ensure(trainable_, "a frozen network has no gradients");
  buffers_.finish_reductions();
  return full_of(name, true);
}

std::vector<at::Tensor> ShardedNetwork::full_gradients(int unit) {
  ensure(trainable_, "a frozen network has no gradients");
  buffers_.finish_reductions();
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients = views(gather_whole(split(shards_[unit].gradient, unit), unit), unit);
  for (size_t i = 0; i < gradients.size(); ++i) {
    gradients[i] = whole_parameter(unit, static_cast<int>(i), gradients[i]).clone();
  }
  return gradients;
}

ShardedNetwork::ExposedTime ShardedNetwork::take_exposed_time() { return std::exchange(exposed_, {}); }

}  // namespace tmd::sharding
