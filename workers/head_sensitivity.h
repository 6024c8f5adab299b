#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "sharding/sharded_network.h"
#include "workers/batch_feed.h"
#include "workers/networks.h"
#include "workers/options.h"

namespace tmd::workers {

/// How much the flow head looks at its inner state, on one micro-batch `batch` at the largest outer time:
///   head_sensitivity_ys  |head(y_s) - head(y_s')| / |head(y_s)|, y_s' with other inner noise, at the
///                        smallest inner time s of the grid above 0
///   head_sensitivity_y1  |y_hat(y_1) - y_hat(y_1')| / |y_hat(y_1)| of whole rollouts
/// with norms over the micro-batches of all ranks. 0: the head ignores what it is given; about 1.4: nothing
/// but noise comes out. Draws are functions of (seed, iteration, slot). Empty for a student without a flow
/// head. Every rank brings equally many rows. Without gradients; collective over: world() of the student's
/// mesh.
std::map<std::string, double> head_sensitivity(const NetworkPlan& plan, const MethodOptions& method,
                                               sharding::ShardedNetwork& student, const Batch& batch,
                                               uint64_t seed);

}  // namespace tmd::workers
