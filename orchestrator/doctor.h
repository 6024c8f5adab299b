#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "comm/communicator.h"
#include "configs/config.h"
#include "orchestrator/finding.h"

namespace tmd::orchestrator {

struct Diagnosis {
  std::vector<Finding> findings;  ///< on rank 0; empty on the others
  nlohmann::json ranks;           ///< what was found on each rank, by rank; limits that are not set are null
  int code = 0;                   ///< exit code, on all ranks
};

struct DoctorRequest {
  std::vector<std::string> config_files;
  std::vector<std::string> settings;  ///< "--section.key=value"
  std::filesystem::path run = ".";    ///< where a run would write
  double seconds = 5;                 ///< of the speed check; 0 leaves it out
  double deadline_s = 120;            ///< of each step
  /// Shows what is known when a step does not end; called on rank 0, on another thread, before the program
  /// ends with kUnavailable.
  std::function<void(const Diagnosis&)> show_unfinished = [](const Diagnosis&) {};
};

/// Looks at everything that `tmd doctor` reports. What is wrong becomes a finding; nothing is left behind in
/// the run folder. Takes `seconds` and two or three more. Memory: 0.1 GB on each rank. Ends the program on
/// all ranks when a step takes longer than its deadline. Collective over: `world`. Errors: those of
/// communication, which leave nothing to report with.
Diagnosis diagnose(comm::Communicator& world, const DoctorRequest& request);

/// The part that every run can afford at its start, some milliseconds and what the file system takes to sync
/// a small file: clocks, cores, memory, limits, write test and free space in `run_folder`. `config` is
/// completed, and fitted to the data. The findings are on rank 0, the other ranks get none.
/// Collective over: `world`. Errors: those of communication.
std::vector<Finding> quick_findings(comm::Communicator& world, const std::filesystem::path& run_folder,
                                    const configs::Config& config);

/// A log line for each finding that is not fine, all as warnings, hints included.
void log_problems(const std::vector<Finding>& findings);

/// Bytes of the largest checkpoint that a run of `config` writes, of all ranks together, without manifest and
/// headers. `config` is completed, and fitted to the data. Allocates nothing. No communication.
uint64_t checkpoint_bytes(const configs::Config& config);

}  // namespace tmd::orchestrator
