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

FlatLayout::FlatLayout(const UnitSpec& unit, int shards) : shards_(shards) {
  for (const ParamSpec& param : unit.params) {
    offsets_.push_back(elements_);
    elements_ = round_up(elements_ + param.elements(), kAlignment);
  }
  elements_ = round_up(elements_, kAlignment * shards_);
}

std::vector<ShardSegment> FlatLayout::segments(const UnitSpec& unit, int rank) const {
  const int64_t begin = shard_begin(rank);
  const int64_t end = begin + shard_elements();
  std::vector<ShardSegment> segments;
  for (size_t i = 0; i < unit.params.size(); ++i) {
    const ParamSpec& param = unit.params[i];
    const int64_t first = std::max(begin, offsets_[i]);
    const int64_t last = std::min(end, offsets_[i] + param.elements());
    if (first >= last) continue;
    Slice slice{.name = param.name,
                .full_shape = param.shape,
                .flat_begin = first - offsets_[i],
                .flat_end = last - offsets_[i]};
    segments.push_back({std::move(slice), first - begin, static_cast<int>(i)});
  }
  return segments;
}

}  // namespace tmd::sharding
