#pragma once

#include <filesystem>
#include <string>

#include "base/safetensors.h"
#include "sharding/sharded_network.h"

namespace tmd::model {

/// Fills `network` from the tensors of a safetensors file that have its parameters' names. Every rank reads only the
/// byte ranges of its slices. Element types F64, F32, F16 and BF16 are converted to the network's type.
/// Throws kData that lists, all at once, the parameters that are missing or have another shape, and the tensors of the
/// file that the network does not have. No communication.
void load_weights(sharding::ShardedNetwork& network, const SafetensorsFile& file);

/// Writes all parameters of `network` as a safetensors file of `dtype` ("F32", "F16", "BF16"). Rank 0 writes.
/// Collective over: the shard group.
void save_weights(sharding::ShardedNetwork& network, const std::filesystem::path& path, const std::string& dtype,
                  const SafetensorsMetadata& metadata);

}  // namespace tmd::model
