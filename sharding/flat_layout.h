#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "sharding/param_spec.h"
#include "sharding/slice.h"

namespace tmd::sharding {

/// Part of a slice that lies in one rank's shard, or in a piece of one: where it is there and which parameter
/// it belongs to.
struct ShardSegment {
  Slice slice;
  int64_t shard_offset = 0;  ///< first element of the slice, counted from the begin of the shard or piece
  int param = 0;             ///< index into UnitSpec::params
  int part = 0;              ///< index into FlatLayout::parts()
};

/// Over how many ranks parameters are cut.
struct ShardExtents {
  int shards = 1;  ///< shard x sequence: ranks that share a block of a tensor out
  int tensor = 1;  ///< blocks that tensor parallelism makes of a tensor with a split dimension
  int pieces = 1;  ///< what the optimizer's part of a shard is cut into: one for each replica, or 1

  /// Ranks that hold one copy of the parameters.
  int ranks() const { return shards * tensor; }
};

/// Elements of a flat buffer that have one type and are cut over ranks on their own.
struct FlatPart {
  int64_t begin = 0;                            ///< first element in the whole buffer
  int64_t elements = 0;                         ///< with padding, a multiple of `shards` times `pieces`
  int64_t shard_begin = 0, shard_elements = 0;  ///< the same in a shard
  int64_t piece_begin = 0, piece_elements = 0;  ///< the same in a piece of a shard
  int shards = 1;      ///< ranks that it is cut over: extents.shards, or extents.ranks() if not split
  bool wide = false;   ///< holds parameters whose spec says `wide`
  bool split = false;  ///< holds blocks of parameters that tensor parallelism cuts
};

/// Where the parameters of a unit lie in its flat buffer, and how the buffer is cut over ranks.
///
/// Under tensor parallelism a tensor rank's buffer holds its blocks of the parameters that have a split
/// dimension, cut over shard x sequence, and, in a part of their own, the parameters that all tensor ranks
/// share, cut over tensor as well: they are stored and stepped once.
///
/// Each parameter starts at a multiple of kAlignment elements, so that its view is aligned for vector loads;
/// the end of a part is padded so that every rank holds the same number of elements. Padding is zero, never
/// stored. A shard is the shards of its parts one behind the other, and a piece of it is the pieces of these:
/// piece i has the i-th of `pieces` equal ranges of each.
class FlatLayout {
 public:
  static constexpr int64_t kAlignment = 16;

  /// `separate_wide`: wide parameters form parts of their own, in front. Keeps nothing of `unit`, whose split
  /// dimensions are multiples of extents.tensor (kInternal).
  FlatLayout(const UnitSpec& unit, ShardExtents extents, bool separate_wide = false);

  int64_t offset(int param) const { return offsets_[param]; }  ///< first element of parameter `param`
  int part(int param) const { return part_of_[param]; }        ///< index of the part that holds it
  const std::vector<FlatPart>& parts() const { return parts_; }
  int64_t elements() const { return elements_; }  ///< with padding
  /// (begin, elements) of what holds no parameter, in the whole buffer.
  const std::vector<std::pair<int64_t, int64_t>>& padding() const { return padding_; }
  int64_t shard_elements() const { return shard_elements_; }  ///< of one rank
  int64_t piece_elements() const { return shard_elements_ / extents_.pieces; }
  const ShardExtents& extents() const { return extents_; }

  /// The slices that `rank` of extents.ranks() holds (tensor is the fastest axis), in the order of their
  /// places, at most one for each parameter of `unit` (that of the constructor). Over the ranks they are
  /// disjoint and cover every parameter.
  std::vector<ShardSegment> segments(const UnitSpec& unit, int rank) const;
  /// The same of piece `piece` of extents.pieces of the rank's shard. Over ranks and pieces they are disjoint
  /// and cover every parameter.
  std::vector<ShardSegment> piece_segments(const UnitSpec& unit, int rank, int piece) const;

 private:
  std::vector<ShardSegment> segments_of(const UnitSpec& unit, int rank, int piece, int pieces) const;
  void add_part(const UnitSpec& unit, const std::vector<int>& params, bool wide, bool split);
  void pad_to(int64_t end);

  ShardExtents extents_;
  std::vector<int64_t> offsets_;
  std::vector<int> part_of_;
  std::vector<FlatPart> parts_;
  std::vector<std::pair<int64_t, int64_t>> padding_;
  int64_t elements_ = 0, shard_elements_ = 0;
};

}  // namespace tmd::sharding
