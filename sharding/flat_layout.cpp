#include "sharding/flat_layout.h"

#include <algorithm>
#include <cmath>

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

FlatLayout::FlatLayout(const UnitSpec& unit, int shards, bool separate_wide)
    : shards_(shards), offsets_(unit.params.size()), part_of_(unit.params.size()) {
  std::vector<int> wide, narrow;
  for (size_t i = 0; i < unit.params.size(); ++i) {
    (separate_wide && unit.params[i].wide ? wide : narrow).push_back(static_cast<int>(i));
  }
  if (!wide.empty()) add_part(unit, wide, true);
  if (!narrow.empty()) add_part(unit, narrow, false);
}

void FlatLayout::add_part(const UnitSpec& unit, const std::vector<int>& params, bool wide) {
  const int64_t begin = elements_;
  for (int param : params) {
    offsets_[param] = elements_;
    part_of_[param] = static_cast<int>(parts_.size());
    elements_ = round_up(elements_ + unit.params[param].elements(), kAlignment);
  }
  elements_ = begin + round_up(elements_ - begin, kAlignment * shards_);
  parts_.push_back({.begin = begin,
                    .elements = elements_ - begin,
                    .shard_begin = begin / shards_,
                    .shard_elements = (elements_ - begin) / shards_,
                    .wide = wide});
}

std::vector<ShardSegment> FlatLayout::segments(const UnitSpec& unit, int rank) const {
  std::vector<ShardSegment> segments;
  for (size_t i = 0; i < unit.params.size(); ++i) {
    const ParamSpec& param = unit.params[i];
    const FlatPart& part = parts_[part_of_[i]];
    const int64_t begin = part.begin + rank * part.shard_elements;
    const int64_t end = begin + part.shard_elements;
    const int64_t first = std::max(begin, offsets_[i]);
    const int64_t last = std::min(end, offsets_[i] + param.elements());
    if (first >= last) continue;
    Slice slice{.name = param.name,
                .full_shape = param.shape,
                .flat_begin = first - offsets_[i],
                .flat_end = last - offsets_[i]};
    segments.push_back(
        {std::move(slice), part.shard_begin + first - begin, static_cast<int>(i), part_of_[i]});
  }
  std::ranges::sort(segments, {}, &ShardSegment::shard_offset);
  return segments;
}

}  // namespace tmd::sharding
