#include "evaluation/coverage.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/philox.h"

namespace tmd::evaluation {
namespace {

at::Tensor line(std::initializer_list<double> values) {
  return at::tensor(at::ArrayRef<double>(values), at::kDouble).view({-1, 1});
}

at::Tensor normals(int64_t count, uint64_t seed) {
  at::Tensor points = at::empty({count, 3}, at::kDouble);
  PhiloxStream(seed, 0, 0, Purpose::kToy)
      .fill_normal(std::span<double>(points.mutable_data_ptr<double>(), points.numel()));
  return points;
}

TEST(NeighbourShares, hand_counted_line) {
  // k = 1: the balls of 0, 1, 3, 10 reach 1, 1, 2, 7.
  const NeighbourShares shares = neighbour_shares(line({0, 1, 3, 10}), line({-0.5, 20, 17.5}), 1);
  EXPECT_DOUBLE_EQ(shares.coverage, 1 / 4.0);   // 0 by -0.5
  EXPECT_DOUBLE_EQ(shares.precision, 1 / 3.0);  // -0.5
  EXPECT_EQ(shares.inside, (std::vector<double>{1, 0, 0}));
  EXPECT_DOUBLE_EQ(neighbour_shares(line({0, 1, 3, 10}), line({4, 4, 4}), 1).coverage, 2 / 4.0);  // 3 and 10
}

TEST(NeighbourShares, border_of_a_ball_belongs_to_it) {
  EXPECT_DOUBLE_EQ(neighbour_shares(line({0, 1, 3}), line({-1}), 1).precision, 1);
}

TEST(NeighbourShares, second_neighbour_reaches_further) {
  // k = 2: the balls of 0, 1, 3 reach 3, 2, 3.
  const NeighbourShares shares = neighbour_shares(line({0, 1, 3}), line({-2}), 2);
  EXPECT_DOUBLE_EQ(shares.coverage, 1 / 3.0);
  EXPECT_DOUBLE_EQ(shares.precision, 1);
}

TEST(NeighbourShares, same_distribution_is_nearly_complete) {
  const NeighbourShares shares = neighbour_shares(normals(700, 1), normals(700, 2));
  EXPECT_GT(shares.coverage, 0.93);  // 1 - 2^-5 in expectation
  EXPECT_GT(shares.precision, 0.95);
}

TEST(NeighbourShares, collapse_keeps_precision_and_loses_coverage) {
  const at::Tensor real = normals(700, 1);
  const NeighbourShares shares = neighbour_shares(real, 0.01 * normals(700, 2));
  EXPECT_GT(shares.precision, 0.99);
  EXPECT_LT(shares.coverage, 0.2);
}

TEST(NeighbourShares, samples_far_off_have_neither) {
  const NeighbourShares shares = neighbour_shares(normals(100, 1), normals(50, 2) + 100);
  EXPECT_EQ(shares.coverage, 0);
  EXPECT_EQ(shares.precision, 0);
}

TEST(NeighbourShares, too_few_real_points_are_an_error) {
  EXPECT_THROW(neighbour_shares(line({0, 1, 2, 3, 4}), line({1}), 5), Error);
}

}  // namespace
}  // namespace tmd::evaluation
