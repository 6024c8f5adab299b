#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "comm/communicator.h"

namespace tmd::checkpoint {

/// One flat tensor of this rank that a checkpoint is to fill.
struct PartToLoad {
  std::string key;
  int rank = 0;  ///< that has written it
  std::string dtype;
  std::vector<PlacedSlice> slices;
  std::span<std::byte> bytes;  ///< borrowed for the call; undefined content after an error
};

/// Fills the parts of all ranks from the checkpoint `folder`, block by block against its hashes, and returns
/// what the checkpoint is of. Every rank reads the parts that it asks for and no others.
/// Collective over: `comm`.
/// Errors, the same on all ranks: kIo for unreadable or damaged files (naming file, tensor and block);
/// kConfig when `mesh` is not the mesh that wrote it (naming that mesh); kData when a part is missing, of
/// another type, size or slices, when the checkpoint holds a part of this rank that nobody asked for, or when
/// it is of another version of the format.
Description load(comm::Communicator& comm, const std::filesystem::path& folder,
                 const sharding::MeshShape& mesh, std::span<const PartToLoad> parts);

}  // namespace tmd::checkpoint
