#pragma once

#include <filesystem>
#include <string>

#include "base/safetensors.h"
#include "sharding/sharded_network.h"

namespace tmd::model {

/// Fills `network` from the tensors of a safetensors file that have its parameters' names (for Wan those of
/// the original checkpoints, Wan 3.2; no prefixes, no other layouts). Every rank reads only the byte ranges
/// of its slices. Element types F64, F32, F16 and BF16 are converted to the network's type.
/// Throws kData that lists, all at once, the parameters that are missing or have another shape, and the
/// tensors of the file that the network does not have (20 at most, then their number); kData for other
/// element types; kIo. Keeps nothing of `file`. No communication: a rank may fail alone.
void load_weights(sharding::ShardedNetwork& network, const SafetensorsFile& file);

/// Writes all parameters of `network` as a safetensors file of `dtype` ("F64", "F32", "F16", "BF16"; else
/// kData on every rank). Rank 0 writes; when the call returns the file is complete for every rank. Throws kIo
/// on rank 0 alone, while the others wait for it: not for run_agreed. Collective over: mesh().world().
void save_weights(sharding::ShardedNetwork& network, const std::filesystem::path& path,
                  const std::string& dtype, const SafetensorsMetadata& metadata);

}  // namespace tmd::model
