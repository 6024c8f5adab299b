#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "orchestrator/finding.h"

namespace tmd::orchestrator {

/// What came of writing where a run will write.
struct WriteTest {
  std::filesystem::path folder;       ///< where it was done
  bool is_parent = false;             ///< of the run folder, which is not there yet
  std::vector<std::string> failures;  ///< one for each rank that failed, beginning with "rank N on HOST: "
  double slowest_s = 0;               ///< of the ranks: write, sync, read, rename
  uint64_t free_bytes = 0;            ///< the least that any rank sees
};

/// Every rank writes, syncs, reads back and renames a file of 64 KiB, which rank 0 then looks for: the file
/// system has to be a shared one. All lies in one folder below `run`, or below the nearest parent that
/// exists, and is removed again; nothing else is created. The result is on all ranks.
/// Collective over: `world`. Errors: those of communication; what fails on the disk is in the result.
WriteTest test_writing(comm::Communicator& world, const std::filesystem::path& run);

/// `checkpoint_bytes`: of a whole checkpoint, 0 = unknown.
std::vector<Finding> judge_writing(const WriteTest& test, uint64_t checkpoint_bytes);

}  // namespace tmd::orchestrator
