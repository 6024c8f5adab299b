#include "evaluation/metric.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace tmd::evaluation {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

TEST(Metric, names_lead_back_to_directions) {
  for (const Better better : {Better::kMore, Better::kLess, Better::kNearOne, Better::kNeither})
    EXPECT_EQ(better_named(name(better)), better);
  EXPECT_FALSE(better_named("bigger").has_value());
}

TEST(Metric, badness_falls_when_a_value_gets_better) {
  EXPECT_LT(badness(Better::kMore, 0.9), badness(Better::kMore, 0.5));
  EXPECT_LT(badness(Better::kLess, 0.5), badness(Better::kLess, 0.9));
  EXPECT_LT(badness(Better::kNearOne, 1.1), badness(Better::kNearOne, 0.8));
  EXPECT_DOUBLE_EQ(badness(Better::kNearOne, 1.25), badness(Better::kNearOne, 0.75));
  EXPECT_EQ(badness(Better::kNeither, 5), badness(Better::kNeither, 6));
}

TEST(Metric, mean_leaves_out_what_has_no_part_in_it) {
  EXPECT_DOUBLE_EQ(mean_of({1, kNone, 4}), 2.5);
  EXPECT_TRUE(std::isnan(mean_of({})));
  EXPECT_TRUE(std::isnan(mean_of({kNone})));
}

TEST(Metric, ratio_is_the_mean_of_the_values_that_are_kept) {
  std::optional<double> ratio;
  MetricValues kept;
  set_ratio("x", {1, 2, 6}, {2, 4}, ratio, kept);
  EXPECT_DOUBLE_EQ(*ratio, 1);
  EXPECT_EQ(kept["x"], (std::vector<double>{1 / 3.0, 2 / 3.0, 2}));
}

TEST(Metric, ratio_to_nothing_is_none) {
  std::optional<double> ratio;
  MetricValues kept;
  set_ratio("x", {1, 2}, {0, 0}, ratio, kept);
  set_ratio("x", {1, 2}, {}, ratio, kept);
  set_ratio("x", {}, {1}, ratio, kept);
  EXPECT_FALSE(ratio.has_value());
  EXPECT_TRUE(kept.empty());
}

}  // namespace
}  // namespace tmd::evaluation
