#include "evaluation/feature_distances.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::evaluation {
namespace {

at::Tensor line(std::initializer_list<double> values) {
  return at::tensor(at::ArrayRef<double>(values), at::kDouble).view({-1, 1});
}

TEST(FeatureDistances, mean_of_all_pairs) {
  EXPECT_DOUBLE_EQ(mean_pairwise_distance(line({0, 1, 3})), (1 + 3 + 2) / 3.0);
  const at::Tensor corner = at::tensor({0.0, 0.0, 3.0, 4.0}).view({2, 2});
  EXPECT_DOUBLE_EQ(mean_pairwise_distance(corner), 5);
  EXPECT_THROW(mean_pairwise_distance(line({1})), Error);
}

TEST(FeatureDistances, diversity_stays_inside_prompts) {
  // Prompt 5: 0, 2; prompt 1: 10, 10; prompt 7 has one sample only.
  const std::vector<int64_t> prompts = {5, 1, 5, 7, 1};
  EXPECT_EQ(prompt_diversity(line({0, 10, 2, 99, 10}), prompts, 2), (std::vector<double>{0, 2}));
  EXPECT_TRUE(prompt_diversity(line({0, 10, 2, 99, 10}), prompts, 3).empty());
  EXPECT_THROW(prompt_diversity(line({0, 1}), prompts, 2), Error);
}

TEST(FeatureDistances, pairs_are_row_by_row) {
  EXPECT_EQ(paired_distances(line({0, 1, 5}), line({2, 1, 1})), (std::vector<double>{2, 0, 4}));
  EXPECT_THROW(paired_distances(line({0, 1}), line({1})), Error);
}

TEST(FeatureDistances, nearest_row_and_nearest_other_row) {
  EXPECT_EQ(nearest_distances(line({0, 4, 11}), line({1, 10})), (std::vector<double>{1, 3, 1}));
  EXPECT_EQ(nearest_other_distances(line({0, 1, 5})), (std::vector<double>{1, 1, 4}));
  EXPECT_EQ(nearest_other_distances(line({2, 2, 5})), (std::vector<double>{0, 0, 3}));
  EXPECT_THROW(nearest_other_distances(line({2})), Error);
  EXPECT_THROW(nearest_distances(line({2}), at::zeros({3, 2})), Error);
}

// The rows are taken in blocks.
TEST(FeatureDistances, many_rows_are_as_few) {
  const at::Tensor points = at::arange(1200, at::kDouble).view({-1, 1});
  const std::vector<double> distances = nearest_distances(points + 0.25, points);
  ASSERT_EQ(distances.size(), 1200u);
  for (const double distance : distances) EXPECT_DOUBLE_EQ(distance, 0.25);
}

}  // namespace
}  // namespace tmd::evaluation
