#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "comm/communicator.h"

namespace tmd::checkpoint {

/// One flat tensor of this rank that a checkpoint is to fill.
struct PartToLoad {
  std::string key;
  std::string dtype;
  std::vector<PlacedSlice> slices;
  std::span<std::byte> bytes;  ///< borrowed for the call; undefined content after an error
};

/// Makes what a checkpoint is to fill, once it is known what it is of. May throw; no communication.
using MakeParts = std::function<std::vector<PartToLoad>(const Description&)>;

/// Fills the parts of all ranks from the checkpoint `folder`, which may have been written on any mesh, and
/// returns what the checkpoint is of.
///
/// Slices are found by the names of their tensors and of what they are of (the part's key; the number at the
/// end of a key like "...part1" only tells parts of one unit apart). `readers` is a group whose ranks want
/// all of the checkpoint between them: a copy of the state. In it, each block of the checkpoint is read and
/// compared with its hash by one rank, which hands it to the others that want some of it. Nothing is read
/// twice, and what one rank alone wants as it lies is read straight to its place. Beside the parts this takes
/// a MiB for each rank of `readers`, 8 at least.
///
/// Collective over: `comm` and `readers`, a group inside it.
/// Errors, the same on all ranks: those of `make_parts`; kIo for unreadable or damaged files (naming file,
/// tensor and block) and a manifest that is of another step than the folder's name says; kData
/// when elements are missing, a tensor has another type or shape, when the checkpoint holds a tensor that
/// nobody asks for, or when it is of another version of the format.
Description load(comm::Communicator& comm, comm::Communicator& readers, const std::filesystem::path& folder,
                 const MakeParts& make_parts);

}  // namespace tmd::checkpoint
