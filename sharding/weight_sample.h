#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "sharding/sharded_network.h"

namespace tmd::sharding {

/// The masters of at most `count` elements of a trainable network, evenly spread over all its parameters:
/// [min(count, elements)] float64, equal on all ranks. Which elements depends on units and `count` alone, so
/// samples that were taken on other meshes or in other starts can be compared.
/// Collective over: world() of the network's mesh.
at::Tensor sample_weights(const ShardedNetwork& network, int64_t count);

/// Share of elements of two samples that differ by more than half a unit in the last place of bfloat16:
/// smaller changes are lost where the weights are used or exported in that type. 0 for empty samples; shapes
/// must be equal (kInternal).
double share_moved(const at::Tensor& before, const at::Tensor& after);

}  // namespace tmd::sharding
