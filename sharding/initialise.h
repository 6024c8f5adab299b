#pragma once

#include <cstdint>
#include <functional>

#include "sharding/sharded_network.h"

namespace tmd::sharding {

/// Fills every parameter by its spec's initialiser. Element i of a tensor depends
/// on (seed, tensor name, i) only, so every mesh starts from the same network. Drawn in float64.
/// Collective over: the replicate group, if the network is trained on two levels.
void initialise(ShardedNetwork& network, uint64_t seed);

/// Copies the parameters that both networks have under the same name and with as many elements (the shapes
/// may differ), converted to the type of `target`; other parameters of `target` stay as they are. Returns the
/// number of elements of whole parameters of `target` that were not found in `source`, the same on every
/// rank. Throws kInternal unless both refer to one Mesh object, and as `gather` does.
/// Collective over: the state group of `source` (a gather for each unit), and the replicate group, if
/// `target` is trained on two levels.
int64_t copy_parameters(ShardedNetwork& source, ShardedNetwork& target);

/// w <- (1 - share) w + share w_source for the parameters w of those units of `target` that `source` has too,
/// under the same name and with the same parameters, and for which `takes(name)`. Both are trained. Throws
/// kInternal unless both refer to one Mesh object. Collective over: the replicate group, on two levels.
void blend_parameters(const ShardedNetwork& source, ShardedNetwork& target, double share,
                      const std::function<bool(const std::string& unit)>& takes);

/// Calls `fill(slice, out)` for every slice that this rank holds; `out` is the slice's place in the shard
/// (a 1-D view of [slice.elements()], in the type that is kept, to be written). Throws what `fill` throws.
/// Collective over: the replicate group, if the network is trained on two levels: `fill` may then not throw
/// on one rank alone.
void fill_slices(ShardedNetwork& network, const std::function<void(const Slice&, at::Tensor out)>& fill);

}  // namespace tmd::sharding
