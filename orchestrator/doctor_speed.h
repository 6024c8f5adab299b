#pragma once

#include <vector>

#include "comm/communicator.h"
#include "orchestrator/finding.h"
#include "orchestrator/rank_facts.h"

namespace tmd::orchestrator {

/// How fast the ranks are, while all of them work at once.
struct Speed {
  std::vector<double> product_gflops;  ///< by rank: 1e9 operations a second in float32 matrix products
  std::vector<double> copy_gb;         ///< by rank: 1e9 bytes a second that memcpy moves, counted once
  double all_reduce_gb = 0;            ///< 1e9 bytes a second that reach a rank; 0 with one rank
};

/// Measures for about `seconds`, with the compute threads of this process. A rank's rate is the best of
/// several rounds: what it can do, not what disturbs it for a moment. The result is on all ranks.
/// Collective over: `world`. Errors: those of communication.
Speed measure_speed(comm::Communicator& world, double seconds);

std::vector<Finding> judge_speed(const std::vector<RankFacts>& facts, const Speed& speed);

}  // namespace tmd::orchestrator
