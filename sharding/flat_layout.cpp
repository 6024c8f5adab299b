#include "sharding/flat_layout.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace tmd::sharding {
namespace {

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

Initialiser Initialiser::xavier_uniform(int64_t fan_in, int64_t fan_out) {
  return {Kind::kUniform, std::sqrt(6.0 / static_cast<double>(fan_in + fan_out))};
}

int64_t ParamSpec::elements() const {
  int64_t n = 1;
  for (int64_t extent : shape) n *= extent;
  return n;
}

std::vector<int64_t> ParamSpec::block_shape(int tensor_ranks) const {
  std::vector<int64_t> block = shape;
  if (split_dim < 0 || tensor_ranks == 1) return block;
  ensure(shape[split_dim] % tensor_ranks == 0, name + " can be cut by the mesh");
  block[split_dim] /= tensor_ranks;
  return block;
}

int64_t ParamSpec::block_elements(int tensor_ranks) const {
  return split_dim < 0 ? elements() : elements() / tensor_ranks;
}

int64_t UnitSpec::elements() const {
  int64_t n = 0;
  for (const ParamSpec& param : params) n += param.elements();
  return n;
}

int64_t count_elements(const std::vector<UnitSpec>& units) {
  int64_t n = 0;
  for (const UnitSpec& unit : units) n += unit.elements();
  return n;
}

FlatLayout::FlatLayout(const UnitSpec& unit, ShardExtents extents, bool separate_wide)
    : extents_(extents), offsets_(unit.params.size()), part_of_(unit.params.size()) {
  for (const bool wide : {true, false}) {
    for (const bool split : {false, true}) {
      std::vector<int> params;
      for (size_t i = 0; i < unit.params.size(); ++i) {
        const ParamSpec& param = unit.params[i];
        const bool is_split = extents.tensor > 1 && param.split_dim >= 0;
        if ((separate_wide && param.wide) == wide && is_split == split) params.push_back(static_cast<int>(i));
      }
      if (!params.empty()) add_part(unit, params, wide, split);
    }
  }
}

void FlatLayout::add_part(const UnitSpec& unit, const std::vector<int>& params, bool wide, bool split) {
  const int64_t begin = elements_;
  const int shards = split ? extents_.shards : extents_.ranks();
  for (int param : params) {
    offsets_[param] = elements_;
    part_of_[param] = static_cast<int>(parts_.size());
    elements_ += unit.params[param].block_elements(extents_.tensor);
    pad_to(round_up(elements_, kAlignment));
  }
  pad_to(begin + round_up(elements_ - begin, kAlignment * shards * extents_.pieces));
  const int64_t shard_elements = (elements_ - begin) / shards;
  parts_.push_back({.begin = begin,
                    .elements = elements_ - begin,
                    .shard_begin = shard_elements_,
                    .shard_elements = shard_elements,
                    .piece_begin = shard_elements_ / extents_.pieces,
                    .piece_elements = shard_elements / extents_.pieces,
                    .shards = shards,
                    .wide = wide,
                    .split = split});
  shard_elements_ += shard_elements;
}

void FlatLayout::pad_to(int64_t end) {
  if (end > elements_) padding_.emplace_back(elements_, end - elements_);
  elements_ = end;
}

std::vector<ShardSegment> FlatLayout::segments(const UnitSpec& unit, int rank) const {
  return segments_of(unit, rank, 0, 1);
}

std::vector<ShardSegment> FlatLayout::piece_segments(const UnitSpec& unit, int rank, int piece) const {
  return segments_of(unit, rank, piece, extents_.pieces);
}

std::vector<ShardSegment> FlatLayout::segments_of(const UnitSpec& unit, int rank, int piece,
                                                  int pieces) const {
  std::vector<ShardSegment> segments;
  for (size_t i = 0; i < unit.params.size(); ++i) {
    const ParamSpec& param = unit.params[i];
    const FlatPart& part = parts_[part_of_[i]];
    const int64_t count = part.shard_elements / pieces;
    const int64_t begin =
        part.begin + (part.split ? rank / extents_.tensor : rank) * part.shard_elements + piece * count;
    const int64_t end = begin + count;
    const int64_t first = std::max(begin, offsets_[i]);
    const int64_t last = std::min(end, offsets_[i] + param.block_elements(extents_.tensor));
    if (first >= last) continue;
    Slice slice{.name = param.name,
                .full_shape = param.shape,
                .flat_begin = first - offsets_[i],
                .flat_end = last - offsets_[i]};
    if (part.split) {
      slice.split_dim = param.split_dim;
      slice.split_count = param.block_shape(extents_.tensor)[param.split_dim];
      slice.split_begin = rank % extents_.tensor * slice.split_count;
    }
    segments.push_back(
        {std::move(slice), part.shard_begin / pieces + first - begin, static_cast<int>(i), part_of_[i]});
  }
  std::ranges::sort(segments, {}, &ShardSegment::shard_offset);
  return segments;
}

}  // namespace tmd::sharding
