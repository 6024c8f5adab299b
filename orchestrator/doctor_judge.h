#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "orchestrator/finding.h"
#include "orchestrator/rank_facts.h"

// What facts of all ranks (by rank, never none) mean. Pure functions, which tests call with facts of hosts
// that are not there.

namespace tmd::orchestrator {

/// Which launcher started the ranks, and whether as many came together as it started.
std::vector<Finding> judge_launch(const std::vector<RankFacts>& facts);

/// Which ranks run on which host, and whether consecutive ranks are neighbours.
std::vector<Finding> judge_hosts(const std::vector<RankFacts>& facts);

/// Whether libraries of other versions run on some ranks.
std::vector<Finding> judge_versions(const std::vector<RankFacts>& facts);

/// How far the hosts' clocks are from that of rank 0.
std::vector<Finding> judge_clocks(const std::vector<RankFacts>& facts);

/// Cores that ranks may use against ranks, threads and what control groups allow.
std::vector<Finding> judge_cores(const std::vector<RankFacts>& facts);

/// Memory of the hosts, and shared memory, which Open MPI uses between the ranks of one.
std::vector<Finding> judge_memory(const std::vector<RankFacts>& facts);

/// Limits of the processes. `checkpoint_bytes`: of a whole checkpoint, 0 = unknown.
std::vector<Finding> judge_limits(const std::vector<RankFacts>& facts, uint64_t checkpoint_bytes);

/// GPUs that the hosts have, what this program does with them, NCCL.
std::vector<Finding> judge_devices(const std::vector<RankFacts>& facts);

/// Whether a rank did less than kSlowShare of the median rank. `rates`: by rank, in `unit`. One finding, fine
/// or a warning that names those ranks and their hosts.
Finding judge_rates(const std::vector<RankFacts>& facts, const std::vector<double>& rates,
                    const std::string& name, const std::string& unit);
inline constexpr double kSlowShare = 0.7;

/// A host as its ranks see it.
struct HostFacts {
  std::string name;
  std::vector<int> ranks;  ///< ascending
  std::vector<int> cores;  ///< that any of them may use, ascending
  int64_t threads = 0;     ///< of all of them
};
/// In the order of their first ranks.
std::vector<HostFacts> hosts_of(const std::vector<RankFacts>& facts);

/// "0-3, 8": ascending numbers with ranges.
std::string ranges_text(const std::vector<int>& numbers);

/// "2.5 GiB", or "no limit".
std::string size_text(uint64_t bytes);

}  // namespace tmd::orchestrator
