#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace tmd::checkpoint {

/// Which checkpoints `prune` keeps.
struct Retention {
  int64_t keep_last = 2;           ///< this many of the newest; at least 1
  int64_t keep_every = 0;          ///< also those whose step is a multiple of it; 0: none
  std::vector<int64_t> keep = {};  ///< also these, where they are there
};

/// What a start finds in the folder of checkpoints.
struct Choice {
  std::optional<int64_t> step;      ///< the one that was loaded; nothing when the folder holds none at all
  std::vector<std::string> damage;  ///< one message per newer checkpoint that was passed over, newest first
};

/// The folder that holds the checkpoints of a run: `step_00002000/` and so on (checkpoint/FORMAT.md).
/// Errors: kIo, and for collective functions the same on all ranks.
class Store {
 public:
  explicit Store(std::filesystem::path root) : root_(std::move(root)) {}

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path folder(int64_t step) const;

  /// The steps that have a folder, ascending; empty when the root does not exist.
  std::vector<int64_t> steps() const;

  /// Creates the root and clears away what an interrupted save left. A checkpoint that was being replaced
  /// when the program died gets its name back. Collective over: `comm`. Call once at start, before
  /// `load_newest`.
  void recover(comm::Communicator& comm) const;

  /// Calls `load` with the newest step and, when that throws kIo, with the next older one, until it returns.
  /// `load` throws the same on all ranks. Errors: other errors of `load`, and kIo when there are checkpoints
  /// but none is intact, listing the damage. Collective over: `comm`.
  Choice load_newest(comm::Communicator& comm, const std::function<void(int64_t step)>& load) const;

  /// Removes old checkpoints by `retention` once `newest` is known to be good. Checkpoints of later steps
  /// than `newest` (passed over as damaged) are neither counted nor removed, and `newest` never is. Throws
  /// kInternal for keep_last < 1. Thread: one rank only.
  void prune(const Retention& retention, int64_t newest) const;

 private:
  std::filesystem::path root_;
};

}  // namespace tmd::checkpoint
