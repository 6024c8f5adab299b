#include "orchestrator/demo_table.h"

#include <gtest/gtest.h>

namespace tmd::orchestrator {
namespace {

DemoMetric metric(DemoMetric::Better better) { return {"key", "title", 1, 2, better, 0.1}; }

TEST(WorseBy, more_is_better) {
  EXPECT_DOUBLE_EQ(worse_by(metric(DemoMetric::Better::kMore), 0.5, 0.75), 0.25);
  EXPECT_LT(worse_by(metric(DemoMetric::Better::kMore), 0.9, 0.75), 0);
}

TEST(WorseBy, less_is_better) {
  EXPECT_DOUBLE_EQ(worse_by(metric(DemoMetric::Better::kLess), 3, 2), 1);
  EXPECT_LT(worse_by(metric(DemoMetric::Better::kLess), 1, 2), 0);
}

TEST(WorseBy, ratios_are_best_at_one_from_both_sides) {
  const DemoMetric ratio = metric(DemoMetric::Better::kNearOne);
  EXPECT_DOUBLE_EQ(worse_by(ratio, 0.5, 1), 0.5);
  EXPECT_DOUBLE_EQ(worse_by(ratio, 1.5, 1), 0.5);
  EXPECT_LT(worse_by(ratio, 1.0, 0.75), 0);
}

}  // namespace
}  // namespace tmd::orchestrator
