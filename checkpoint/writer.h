#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "comm/communicator.h"

namespace tmd::checkpoint {

/// One flat tensor of this rank that goes into a checkpoint.
struct LocalPart {
  std::string key;    ///< unique on this rank; parts with the same text before the first dot share a file
  std::string dtype;  ///< as safetensors spells it, e.g. "F32"
  std::vector<PlacedSlice> slices;
  std::span<const std::byte> bytes;  ///< borrowed: by `save` for the call, by BackgroundSave as it says
  int device = -1;  ///< whose memory `bytes` is; -1: the host's. What wrote there last must be over
};

/// "step_00002000"
std::string step_folder_name(int64_t step);
/// Where a checkpoint is put together, and where one that is being replaced waits: FOLDER.partial,
/// FOLDER.replaced.
std::filesystem::path partial_folder(const std::filesystem::path& folder);
std::filesystem::path replaced_folder(const std::filesystem::path& folder);

/// Writes the checkpoint `folder` of all ranks' parts (checkpoint/FORMAT.md): every rank writes and syncs its
/// files into FOLDER.partial, rank 0 adds the manifest and renames the folder. A folder that has its final
/// name is complete; one that was there before is replaced as a whole. `description` is taken from rank 0.
/// Collective over: `comm`, which all have a common file system.
/// Errors, the same on all ranks: kIo when any rank cannot write, when the file system lacks the space, or
/// when rank 0 does not see the others' files. FOLDER.partial is then removed and older checkpoints are as
/// before. kInternal for keys that are used twice or give no file name, slices that do not fit their part,
/// and a mesh that has not comm.size() ranks.
void save(comm::Communicator& comm, const std::filesystem::path& folder, const Description& description,
          std::span<const LocalPart> parts);

}  // namespace tmd::checkpoint
