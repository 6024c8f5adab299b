#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/safetensors_set.h"
#include "model/weight_check.h"
#include "sharding/sharded_network.h"

namespace tmd::model {

/// Throws what load_weights of a network of `units`, called `model`, throws for `files` before it reads any.
/// No communication.
void check_weights(const SafetensorsSet& files, const std::string& model,
                   std::span<const sharding::UnitSpec> units, const NameInFile& name_in_file = {});

/// Fills `network` from tensors that have its parameters' names in the spelling of `name_in_file` (by default
/// as they are). Every rank reads only the byte ranges of its slices, straight into its shard where the types
/// agree, else through a buffer of a few MiB. Element types F64, F32, F16 and BF16 are converted. A weight
/// whose stored shape differs in how its trailing dimensions are cut only ([D, 64] for [D, 16, 1, 2, 2],
/// Wan 3.1) is taken.
/// Throws kData that lists, all at once, the parameters that are missing or have another shape, and the
/// tensors of the files that the network does not have (20 at most, then their number); kData for other
/// element types; kIo. Keeps nothing of `files`.
/// No communication, so a rank may fail alone; but on two levels (network.has_pieces()) none may, Collective
/// over: the replicate group.
void load_weights(sharding::ShardedNetwork& network, const SafetensorsSet& files,
                  const NameInFile& name_in_file = {});

/// How weights are written.
struct SaveOptions {
  std::string dtype = "F32";     ///< "F64", "F32", "F16" or "BF16", of every tensor
  NameInFile name_in_file = {};  ///< empty: names as they are
  SafetensorsMetadata metadata = {{"format", "pt"}};
  uint64_t largest_file = 0;  ///< bytes of tensors in one file; more are cut into several with an index (Wan
                              ///< 3.3); 0: one file whatever its size
};

/// Writes all parameters of `network`, in full precision before the conversion: `folder`/`stem`.safetensors,
/// or `stem`-00001-of-0000N.safetensors and so on with `stem`.safetensors.index.json. Rank 0 writes. Throws
/// kData for another dtype on every rank; on rank 0 alone, after the last collective, so that the call may
/// stand in run_agreed: kData, naming the tensor, for a number that the dtype cannot hold (it would become
/// infinite), kIo, and what `name_in_file` throws. Collective over: the state group, of which rank 0 of the
/// world must be a member.
void save_weights(sharding::ShardedNetwork& network, const std::filesystem::path& folder,
                  const std::string& stem, const SaveOptions& options);

}  // namespace tmd::model
