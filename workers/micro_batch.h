#pragma once

#include <cstdint>

#include "workers/batch_feed.h"

// Arithmetic of a FeedPlan. Micro-batches are counted from 0 at the plan's first iteration. All but
// check_plan take a plan that it accepts.
namespace tmd::workers {

/// Which slots of which iteration one micro-batch holds.
struct MicroBatch {
  int64_t iteration = 0;
  int64_t first_slot = 0;  ///< of row 0 in the global batch
  int64_t rows = 0;
  bool operator==(const MicroBatch&) const = default;
};

/// Throws kInternal unless iterations count from 1, the slots lie within the global batch and no size is
/// zero. last_iteration < first_iteration is a plan without batches.
void check_plan(const FeedPlan& plan);

/// Micro-batches of one rank in one iteration.
int64_t micro_batches_per_iteration(const FeedPlan& plan);
/// Micro-batches of the whole plan.
int64_t count_micro_batches(const FeedPlan& plan);
/// Throws kInternal unless 0 <= index < count_micro_batches(plan).
MicroBatch micro_batch_at(const FeedPlan& plan, int64_t index);

/// Global position (data/order.h) of a slot.
int64_t position_of(const FeedPlan& plan, int64_t iteration, int64_t slot);

}  // namespace tmd::workers
