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
  int part = 0;              ///< index into FlatLayout::parts()
};

/// Elements of a flat buffer that have one type and are cut over the shard group on their own.
struct FlatPart {
  int64_t begin = 0;                            ///< first element in the whole buffer
  int64_t elements = 0;                         ///< with padding, a multiple of the shard count
  int64_t shard_begin = 0, shard_elements = 0;  ///< the same in a shard
  bool wide = false;                            ///< holds parameters whose spec says `wide`
};

/// Where the parameters of a unit lie in its flat buffer, and how the buffer is cut over the shard group.
///
/// Each parameter starts at a multiple of kAlignment elements, so that its view is aligned for vector loads;
/// the end of a part is padded so that every rank holds the same number of elements. Padding is zero, never
/// stored. A shard is the shards of its parts one behind the other.
class FlatLayout {
 public:
  static constexpr int64_t kAlignment = 16;

  /// `shards`: size of the shard group. `separate_wide`: wide parameters form a part of their own, in front;
  /// else there is one part. Keeps nothing of `unit`.
  FlatLayout(const UnitSpec& unit, int shards, bool separate_wide = false);

  int64_t offset(int param) const { return offsets_[param]; }  ///< first element of parameter `param`
  int part(int param) const { return part_of_[param]; }        ///< index of the part that holds it
  const std::vector<FlatPart>& parts() const { return parts_; }
  int64_t elements() const { return elements_; }  ///< with padding, a multiple of the shard count
  int64_t shard_elements() const { return elements_ / shards_; }

  /// The slices that shard `rank` holds, in the order of their places, at most one for each parameter of
  /// `unit` (that of the constructor). Over the ranks they are disjoint and cover every parameter.
  std::vector<ShardSegment> segments(const UnitSpec& unit, int rank) const;

 private:
  void add_part(const UnitSpec& unit, const std::vector<int>& params, bool wide);

  int shards_;
  std::vector<int64_t> offsets_;
  std::vector<int> part_of_;
  std::vector<FlatPart> parts_;
  int64_t elements_ = 0;
};

}  // namespace tmd::sharding
