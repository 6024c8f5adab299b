#pragma once

#include <filesystem>

#include "base/file.h"
#include "base/unique_handle.h"

namespace tmd::orchestrator {

/// Keeps a second job out of a run folder: an exclusive lock of the operating system on FOLDER/in_use, which
/// ends with the process, however that ends. The file says who holds it.
class RunLock {
 public:
  /// Throws kConfig, naming host, process and Slurm job of the holder, when another process has the lock; an
  /// earlier start of the same Slurm job is waited for, two minutes, before kPeerLost. Where the file system
  /// knows no locks a warning says so. Throws kIo.
  explicit RunLock(const std::filesystem::path& folder);

 private:
  UniqueHandle<int, -1, close_descriptor> descriptor_;
};

}  // namespace tmd::orchestrator
