#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "comm/communicator.h"

namespace tmd::orchestrator {

/// Stands for a limit that is not set.
inline constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

/// What one rank sees of itself and of its host. What the system does not tell is 0, or kNoLimit.
struct RankFacts {
  std::string host;
  std::vector<int> cores;           ///< that it may run on
  int64_t launcher_cores = 0;       ///< that the process which started it may run on; 0 unless that is mpirun
  double core_quota = 0;            ///< cores' worth of time that its control groups give; 0 = no limit
  int64_t threads = 1;              ///< compute threads
  uint64_t memory_total_bytes = 0;  ///< of the host
  uint64_t memory_available_bytes = 0;      ///< what the host and the control groups still give
  uint64_t memory_group_bytes = kNoLimit;   ///< what the control groups alone still give
  uint64_t shared_memory_total_bytes = 0;   ///< of /dev/shm
  uint64_t shared_memory_free_bytes = 0;    ///< of /dev/shm
  uint64_t open_files_limit = kNoLimit;     ///< RLIMIT_NOFILE; all limits are the soft ones
  uint64_t file_bytes_limit = kNoLimit;     ///< RLIMIT_FSIZE
  uint64_t locked_bytes_limit = kNoLimit;   ///< RLIMIT_MEMLOCK
  uint64_t address_bytes_limit = kNoLimit;  ///< RLIMIT_AS
  bool has_infiniband = false;
  std::string gpu_driver;            ///< of NVIDIA, its version; empty when there is none
  int64_t gpus = 0;                  ///< that this driver lists
  std::vector<std::string> devices;  ///< names of those that this process can compute on
  std::string no_device;             ///< why there are none
  std::string versions;              ///< of the libraries, in one text to compare
  /// This rank's clock in microseconds since 1970, after barriers that all ranks leave together.
  std::vector<int64_t> clock_us;
  std::map<std::string, std::string> environment;  ///< what launchers and libraries obey, where it is set

  std::string variable(const std::string& name) const;  ///< empty when it is not set
  /// Whether Open MPI lets an idle rank of this job give up its core.
  bool yields_when_idle() const;
};

void to_json(nlohmann::json& json, const RankFacts& facts);
void from_json(const nlohmann::json& json, RankFacts& facts);

/// The facts of all ranks, by rank, on all of them. `threads`: compute threads of this rank. Takes
/// milliseconds. Collective over: `world`. Errors: those of communication.
std::vector<RankFacts> gather_facts(comm::Communicator& world, int64_t threads);

/// The least that the control groups of a process allow of a core's time, in cores, from its own group out to
/// the root of the hierarchy; 0 when there is no limit. `groups` and `mount` as of left_in_control_groups;
/// version 2 only.
double core_quota(const std::string& groups, const std::string& mount);

/// "0-3,8" as the kernel writes lists of cores; what is no number ends the list.
std::vector<int> parse_core_list(const std::string& text);

}  // namespace tmd::orchestrator
