#include "sharding/network_bytes.h"

#include <algorithm>

#include <ATen/ATen.h>

#include "sharding/sharded_network.h"

namespace tmd::sharding {

NetworkBytes network_bytes(const std::vector<UnitSpec>& units, ShardExtents extents, at::ScalarType type,
                           bool trainable) {
  const bool casts = type == at::kBFloat16;
  const auto narrow = static_cast<int64_t>(at::elementSize(type)), wide = casts ? 4 : narrow;
  const bool communicates = extents.shards * extents.tensor > 1;
  NetworkBytes bytes;
  GatherBuffers::Sizes buffers;
  for (const UnitSpec& unit : units) {
    const FlatLayout layout(unit, extents, casts);
    int64_t gathered = 0, own = 0;
    for (const FlatPart& part : layout.parts()) {
      gathered += part.elements * (part.wide ? wide : narrow);
      own += part.shard_elements * (part.wide ? wide : narrow);
    }
    const bool has_pieces = trainable && extents.pieces > 1;
    if (trainable) bytes.kept += (layout.shard_elements() + layout.piece_elements()) * wide;
    if (has_pieces) bytes.kept += layout.piece_elements() * wide;
    if (has_pieces || !trainable) bytes.kept += own;
    bytes.largest_unit = std::max(bytes.largest_unit, gathered);
    buffers.grow(buffer_sizes(layout, type, trainable, communicates));
  }
  bytes.buffers = buffers.bytes();
  return bytes;
}

}  // namespace tmd::sharding
