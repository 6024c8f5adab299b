#include "sharding/sharded_network.h"

#include <chrono>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "base/error.h"
#include "sharding/flat_casts.h"
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
  zero_range(shard, layout, end, shard.master.defined() ? shard.master.numel() : layout.shard_elements());
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
  const bool casts = trainable && type != wide_type && layout.extents().pieces == 1;
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
  GatherBuffers::Sizes sizes;
  for (const UnitSpec& unit : specs_) {
    layouts_.emplace_back(unit, mesh_.extents(), /*separate_wide=*/type_ != wide_type());
    sizes.grow(buffer_sizes(layouts_.back()));
  }
  buffers_.reserve(sizes);  // at once: what a buffer grows out of would leave a hole
  for (int unit = 0; unit < this->units(); ++unit) add_shard(unit);
  if (trainable_) allocate_gradients(arena);
}

void ShardedNetwork::add_shard(int unit) {
  const bool casts = type_ != wide_type();
  const FlatLayout& layout = layouts_[unit];
  UnitShard& shard = shards_.emplace_back();
  const int rank = mesh_.copy_group().rank();
  shard.segments = has_pieces() ? layout.piece_segments(specs_[unit], rank, mesh_.replicate_group().rank())
                                : layout.segments(specs_[unit], rank);
  const MemoryTag tag(MemoryItem::kWeights);
  const at::TensorOptions wide = at::TensorOptions(wide_type()).device(device());
  const int64_t kept = has_pieces() ? layout.piece_elements() : layout.shard_elements();
  if (trainable_ || !casts) shard.master = at::empty({kept}, wide);
  if (!casts && !has_pieces()) {
    shard.parts = split(shard.master, unit);
  } else if (!trainable_ || has_pieces()) {
    for (const FlatPart& part : layout.parts()) {
      shard.parts.push_back(at::empty({part.shard_elements}, wide.dtype(part_type(part))));
    }
  }
  zero_padding(shard, layout);
}

void ShardedNetwork::allocate_gradients(GradientArena* arena) {
  int64_t elements = 0;
  for (const FlatLayout& layout : layouts_) {
    elements += layout.shard_elements() + (has_pieces() ? layout.piece_elements() : 0);
  }
  const MemoryTag tag(MemoryItem::kGradients);
  at::Tensor rest = arena ? arena->get(elements, wide_type())
                          : at::zeros({elements}, at::TensorOptions(wide_type()).device(device()));
  const auto next = [&rest](int64_t count) {
    at::Tensor first = rest.narrow(0, 0, count);
    rest = rest.narrow(0, count, rest.numel() - count);
    return first;
  };
  for (size_t i = 0; i < shards_.size(); ++i) {
    UnitShard& shard = shards_[i];
    shard.gradient = next(layouts_[i].shard_elements());
    shard.piece_gradient = has_pieces() ? next(layouts_[i].piece_elements()) : shard.gradient;
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
    cast_into(cast, parts[i]);
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

// Any shards of a unit, in the buffers if they are free and large enough.
ShardedNetwork::Gathered ShardedNetwork::gather_whole(const std::vector<at::Tensor>& shards, int unit) {
  if (!communicates()) return Gathered(nullptr, views(shards, unit));
  int64_t bytes = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    bytes += layouts_[unit].parts()[i].elements * static_cast<int64_t>(shards[i].element_size());
  }
  std::vector<at::Tensor> parts;
  std::vector<comm::Work> works;
  const at::Tensor lent = buffers_.lend(bytes);
  start_gather_of(shards, unit,
                  lent.defined() ? lent : at::empty({bytes}, at::TensorOptions(at::kByte).device(device())),
                  parts, works);
  wait_for(works, &ExposedTime::gather_s);
  return Gathered(lent.defined() ? this : nullptr, views(parts, unit));
}

// The shard of each part out of what the replicas hold of it.
std::vector<at::Tensor> ShardedNetwork::whole_shards(const at::Tensor& pieces, int unit) {
  if (!has_pieces()) return split(pieces, unit);
  std::vector<at::Tensor> shards;
  std::vector<comm::Work> works;
  for (const FlatPart& part : layouts_[unit].parts()) {
    const at::Tensor piece = pieces.narrow(0, part.piece_begin, part.piece_elements);
    shards.push_back(at::empty({part.shard_elements}, pieces.options()));
    works.push_back(mesh_.replicate_group().all_gather(piece, shards.back()));
  }
  wait_for(works, &ExposedTime::gather_s);
  return shards;
}

at::Tensor ShardedNetwork::own_piece(int unit, int part) const {
  const int64_t elements = layouts_[unit].parts()[part].piece_elements;
  return shards_[unit].parts[part].narrow(0, mesh_.replicate_group().rank() * elements, elements);
}

void ShardedNetwork::publish(bool is_rounded) {
  if (!has_pieces()) return;
  const at::NoGradGuard no_grad;
  comm::Communicator& replicas = mesh_.replicate_group();
  std::vector<comm::Work> works;
  for (int unit = 0; unit < units(); ++unit) {
    const UnitShard& shard = shards_[unit];
    for (size_t i = 0; i < shard.parts.size(); ++i) {
      const FlatPart& part = layouts_[unit].parts()[i];
      const at::Tensor own = own_piece(unit, static_cast<int>(i));
      if (!is_rounded || own.scalar_type() != at::kBFloat16)
        cast_into(own, shard.master.narrow(0, part.piece_begin, part.piece_elements));
      works.push_back(replicas.all_gather(own, shard.parts[i]));
    }
  }
  wait_for(works, &ExposedTime::gather_s);
}

ShardedNetwork::Gathered ShardedNetwork::gather_master(int unit) {
  const at::NoGradGuard no_grad;
  const UnitShard& own = shards_[unit];
  return gather_whole(own.master.defined() ? whole_shards(own.master, unit) : own.parts, unit);
}

// The flat input of a unit's reduction, part by part.
std::vector<at::Tensor> ShardedNetwork::flat_gradient(int unit, const at::Tensor& bytes) const {
  const FlatLayout& layout = layouts_[unit];
  const at::Tensor whole = typed(bytes, 0, layout.elements(), wide_type());
  std::vector<at::Tensor> flat;
  for (const FlatPart& part : layout.parts()) flat.push_back(whole.narrow(0, part.begin, part.elements));
  return flat;
}

// The first sum since zero_gradients needs no other memory; later ones are added from the slot.
void ShardedNetwork::start_reduction(int unit, const std::vector<at::Tensor>& flat,
                                     GatherBuffers::ReduceSlot& slot) {
  const FlatLayout& layout = layouts_[unit];
  UnitShard& shard = shards_[unit];
  slot.adds = std::exchange(shard.has_gradient, true);
  const std::vector<at::Tensor> sums = split(
      slot.adds ? typed(buffers_.sum_buffer(slot), 0, layout.shard_elements(), wide_type()) : shard.gradient,
      unit);
  for (size_t i = 0; i < flat.size(); ++i) {
    slot.works.push_back(group_of(layout.parts()[i]).reduce_scatter(flat[i], sums[i], comm::ReduceOp::kSum));
  }
  slot.holds = {this, unit};
}

void ShardedNetwork::add_reduced(int unit, const at::Tensor& sum_bytes) {
  const at::NoGradGuard no_grad;
  shards_[unit].gradient.add_(typed(sum_bytes, 0, layouts_[unit].shard_elements(), wide_type()));
}

// What the optimizer takes of a unit's gradient, once reductions have ended; memory that other networks share
// is left alone.
at::Tensor ShardedNetwork::settled_gradient(int unit) {
  ensure(trainable_, "a frozen network has no gradients");
  buffers_.finish_reductions();
  const UnitShard& shard = shards_[unit];
  return shard.has_gradient ? shard.piece_gradient : at::zeros_like(shard.piece_gradient);
}

void ShardedNetwork::reduce_over_replicas() {
  buffers_.finish_reductions();
  for (UnitShard& shard : shards_) {
    if (!std::exchange(shard.has_gradient, true)) shard.gradient.zero_();
  }
  comm::Communicator& group = mesh_.replicate_group();
  if (group.size() == 1) return;
  std::vector<comm::Work> works;
  for (int unit = 0; unit < units(); ++unit) {
    UnitShard& shard = shards_[unit];
    if (!has_pieces()) {
      works.push_back(group.all_reduce(shard.gradient, comm::ReduceOp::kSum));
      continue;
    }
    for (const FlatPart& part : layouts_[unit].parts()) {
      works.push_back(group.reduce_scatter(
          shard.gradient.narrow(0, part.shard_begin, part.shard_elements),
          shard.piece_gradient.narrow(0, part.piece_begin, part.piece_elements), comm::ReduceOp::kSum));
    }
  }
  wait_for(works, &ExposedTime::reduce_s);
}

void ShardedNetwork::zero_gradients() {
  buffers_.finish_reductions();
  for (UnitShard& shard : shards_) shard.has_gradient = false;
}

at::Tensor ShardedNetwork::full_of(const std::string& name, bool gradient) {
  for (int unit = 0; unit < units(); ++unit) {
    for (size_t i = 0; i < specs_[unit].params.size(); ++i) {
      if (specs_[unit].params[i].name != name) continue;
      const at::NoGradGuard no_grad;
      const UnitShard& own = shards_[unit];
      const at::Tensor pieces = gradient ? settled_gradient(unit) : own.master;
      const Gathered gathered = gather_whole(pieces.defined() ? whole_shards(pieces, unit) : own.parts, unit);
      return whole_parameter(unit, static_cast<int>(i), gathered.params[i]).clone();
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

at::Tensor ShardedNetwork::full_gradient(const std::string& name) { return full_of(name, true); }

std::vector<at::Tensor> ShardedNetwork::full_gradients(int unit) {
  const at::NoGradGuard no_grad;
  const Gathered gathered = gather_whole(whole_shards(settled_gradient(unit), unit), unit);
  std::vector<at::Tensor> gradients;
  for (size_t i = 0; i < gathered.params.size(); ++i) {
    gradients.push_back(whole_parameter(unit, static_cast<int>(i), gathered.params[i]).clone());
  }
  return gradients;
}

ShardedNetwork::ExposedTime ShardedNetwork::take_exposed_time() { return std::exchange(exposed_, {}); }

}  // namespace tmd::sharding
