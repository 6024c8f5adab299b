#include "workers/micro_batch.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::workers {
namespace {

TEST(MicroBatch, at_cutsSlotsWithSmallerLast) {
  const FeedPlan plan{.first_iteration = 4,
                      .last_iteration = 5,
                      .global_batch = 9,
                      .first_slot = 3,
                      .slots = 5,
                      .micro_batch = 2};

  EXPECT_EQ(micro_batches_per_iteration(plan), 3);
  ASSERT_EQ(count_micro_batches(plan), 6);
  EXPECT_EQ(micro_batch_at(plan, 0), (MicroBatch{4, 3, 2}));
  EXPECT_EQ(micro_batch_at(plan, 2), (MicroBatch{4, 7, 1}));
  EXPECT_EQ(micro_batch_at(plan, 3), (MicroBatch{5, 3, 2}));
  EXPECT_THROW(micro_batch_at(plan, 6), Error);
}

TEST(MicroBatch, count_isZeroForEmptyPlan) {
  EXPECT_EQ(count_micro_batches({.first_iteration = 8, .last_iteration = 7}), 0);
  EXPECT_EQ(count_micro_batches({.first_iteration = 9, .last_iteration = 7}), 0);
}

TEST(MicroBatch, position_countsFromTheFirstIteration) {
  const FeedPlan plan{.first_iteration = 3, .last_iteration = 3, .global_batch = 10};
  EXPECT_EQ(position_of(plan, 1, 0), 0);
  EXPECT_EQ(position_of(plan, 3, 7), 27);
}

TEST(MicroBatch, check_refusesPlansThatDoNotFit) {
  EXPECT_NO_THROW(check_plan({.global_batch = 4, .first_slot = 2, .slots = 2}));
  EXPECT_THROW(check_plan({.global_batch = 4, .first_slot = 3, .slots = 2}), Error);
  EXPECT_THROW(check_plan({.global_batch = 4, .slots = 0}), Error);
  EXPECT_THROW(check_plan({.first_iteration = 0}), Error);
  EXPECT_THROW(check_plan({.micro_batch = 0}), Error);
}

}  // namespace
}  // namespace tmd::workers
