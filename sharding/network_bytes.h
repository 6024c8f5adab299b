#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "sharding/flat_layout.h"

namespace tmd::sharding {

/// Memory that a ShardedNetwork takes on one rank.
struct NetworkBytes {
  int64_t kept = 0;          ///< parameters and gradients of the shard
  int64_t largest_unit = 0;  ///< the largest unit when it is gathered in the types of compute
  int64_t buffers =
      0;  ///< for gathering and reducing, which networks may share (GatherBuffers::bytes at the start)
};

/// Of a network of `units` cut over ranks, with the arguments of ShardedNetwork. Optimizers are not counted.
NetworkBytes network_bytes(const std::vector<UnitSpec>& units, ShardExtents extents, at::ScalarType type,
                           bool trainable);

}  // namespace tmd::sharding
