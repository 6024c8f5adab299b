#pragma once

#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "orchestrator/finding.h"
#include "orchestrator/load_config.h"

namespace tmd::orchestrator {

/// What came of reading the configuration of a run.
struct ConfigCheck {
  std::vector<Finding> findings;         ///< the same on all ranks
  std::unique_ptr<LoadedConfig> loaded;  ///< null when none was asked for, or when it is refused
  bool is_complete = false;              ///< read, and fitted to the data
};

/// Reads files and settings on every rank, compares them, opens the data and cuts mesh and batch for the
/// ranks at hand, as a run would. Nothing is asked for when both are empty. Collective over: `world`.
/// Errors: those of communication; what a run would refuse is in the findings.
ConfigCheck check_config(comm::Communicator& world, const std::vector<std::string>& files,
                         const std::vector<std::string>& settings);

}  // namespace tmd::orchestrator
