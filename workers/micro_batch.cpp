#include "workers/micro_batch.h"

#include <algorithm>

#include "base/error.h"

namespace tmd::workers {

void check_plan(const FeedPlan& plan) {
  ensure(plan.first_iteration >= 1, "iterations count from 1");
  ensure(plan.global_batch >= 1 && plan.micro_batch >= 1 && plan.slots >= 1, "batches hold samples");
  ensure(plan.first_slot >= 0 && plan.first_slot + plan.slots <= plan.global_batch,
         "a rank's slots lie within the global batch");
}

int64_t micro_batches_per_iteration(const FeedPlan& plan) {
  return (plan.slots + plan.micro_batch - 1) / plan.micro_batch;
}

int64_t count_micro_batches(const FeedPlan& plan) {
  const int64_t iterations = std::max<int64_t>(0, plan.last_iteration - plan.first_iteration + 1);
  return iterations * micro_batches_per_iteration(plan);
}

MicroBatch micro_batch_at(const FeedPlan& plan, int64_t index) {
  ensure(index >= 0 && index < count_micro_batches(plan), "a micro-batch lies within its plan");
  const int64_t per_iteration = micro_batches_per_iteration(plan);
  const int64_t offset = index % per_iteration * plan.micro_batch;
  return {plan.first_iteration + index / per_iteration, plan.first_slot + offset,
          std::min(plan.micro_batch, plan.slots - offset)};
}

int64_t position_of(const FeedPlan& plan, int64_t iteration, int64_t slot) {
  return (iteration - 1) * plan.global_batch + slot;
}

}  // namespace tmd::workers
