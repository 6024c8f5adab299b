#pragma once

#include <cstdint>
#include <vector>

#include "sharding/param_spec.h"
#include "sharding/slice.h"

namespace tmd::sharding {

/// Part of a slice that lies in one rank's shard: where it is in the shard and which parameter it belongs to.
struct ShardSegment {
  Slice slice;
  int64_t shard_offset = 0;  ///< first element of the slice, counted from the shard's begin
  int param = 0;             ///< index into UnitSpec::params
};

/// Where the parameters of a unit lie in its flat buffer, and how the buffer is cut over the shard group.
///
/// Each parameter starts at a multiple of kAlignment elements, so that its view is aligned for vector loads;
/// the end is padded so that every rank holds the same number of elements. Padding is zero, never stored.
class FlatLayout {
 public:
  static constexpr int64_t kAlignment = 16;

  /// `shards`: size of the shard group. Keeps nothing of `unit`.
  FlatLayout(const UnitSpec& unit, int shards);

  int64_t offset(int param) const { return offsets_[param]; }  ///< first element of parameter `param`
  int64_t elements() const { return elements_; }  ///< with padding, a multiple of the shard count
  int64_t shard_elements() const { return elements_ / shards_; }
  int64_t shard_begin(int rank) const { return rank * shard_elements(); }

  /// The slices that shard `rank` holds, in the order of their offsets, at most one for each parameter of
  /// `unit` (that of the constructor). Over the ranks they are disjoint and cover every parameter.
  std::vector<ShardSegment> segments(const UnitSpec& unit, int rank) const;

 private:
  int shards_;
  std::vector<int64_t> offsets_;
  int64_t elements_ = 0;
};

}  // namespace tmd::sharding
