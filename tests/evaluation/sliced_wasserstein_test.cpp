#include "evaluation/sliced_wasserstein.h"

#include <cmath>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/philox.h"

namespace tmd::evaluation {
namespace {

at::Tensor normals(int64_t count, int64_t dimensions, uint64_t seed) {
  at::Tensor points = at::empty({count, dimensions}, at::kDouble);
  PhiloxStream(seed, 0, 0, Purpose::kToy)
      .fill_normal(std::span<double>(points.mutable_data_ptr<double>(), points.numel()));
  return points;
}

TEST(SortedWasserstein, equal_counts_pair_in_order) {
  const std::vector<double> a = {0, 1, 2}, b = {1, 1, 5};
  const SlicedDistance distance = sorted_wasserstein(a, b);
  EXPECT_DOUBLE_EQ(distance.w1, (1 + 0 + 3) / 3.0);
  EXPECT_DOUBLE_EQ(distance.w2, std::sqrt((1 + 0 + 9) / 3.0));
}

TEST(SortedWasserstein, unequal_counts_share_mass_by_quantile) {
  // Thirds against halves: pieces of 1/3, 1/6, 1/6, 1/3.
  const std::vector<double> a = {0, 3, 6}, b = {1, 4};
  const SlicedDistance distance = sorted_wasserstein(a, b);
  EXPECT_DOUBLE_EQ(distance.w1, (2 * 1 + 1 * 2 + 1 * 1 + 2 * 2) / 6.0);
  EXPECT_DOUBLE_EQ(distance.w2, std::sqrt((2 * 1 + 1 * 4 + 1 * 1 + 2 * 4) / 6.0));
}

TEST(SortedWasserstein, repeated_values_change_nothing) {
  const std::vector<double> a = {0, 1, 7}, twice = {0, 0, 1, 1, 7, 7}, b = {2, 3, 3, 9};
  EXPECT_DOUBLE_EQ(sorted_wasserstein(a, b).w1, sorted_wasserstein(twice, b).w1);
  EXPECT_DOUBLE_EQ(sorted_wasserstein(a, b).w2, sorted_wasserstein(twice, b).w2);
}

TEST(SlicedWasserstein, one_dimension_is_the_plain_distance) {
  const at::Tensor a = at::tensor({2.0, 0.0, 1.0}, at::kDouble).view({3, 1});
  const at::Tensor b = at::tensor({5.0, 1.0, 1.0}, at::kDouble).view({3, 1});
  const SlicedDistance distance = sliced_wasserstein(a, b, 7, 1);
  EXPECT_NEAR(distance.w1, 4 / 3.0, 1e-12);
  EXPECT_NEAR(distance.w2, std::sqrt(10 / 3.0), 1e-12);
}

TEST(SlicedWasserstein, shift_in_the_plane_has_the_closed_form) {
  // A shift by length d moves each projection by d |cos|: mean 2 d / pi, mean square d^2 / 2.
  const at::Tensor points = normals(500, 2, 3);
  const at::Tensor shifted = points + at::tensor({3.0, 4.0}, at::kDouble);
  const SlicedDistance distance = sliced_wasserstein(points, shifted, 20000, 5);
  EXPECT_NEAR(distance.w1, 5 * 2 / M_PI, 0.02);
  EXPECT_NEAR(distance.w2, 5 / std::sqrt(2.0), 0.02);
}

TEST(SlicedWasserstein, scaled_normal_has_the_closed_form) {
  // Between N(0, 1) and N(0, s^2) the 2-Wasserstein distance is s - 1 in each direction.
  const at::Tensor points = normals(20000, 3, 3);
  EXPECT_NEAR(sliced_wasserstein(points, points * 1.5, 64, 5).w2, 0.5, 0.01);
}

TEST(SlicedWasserstein, order_of_samples_does_not_matter_and_same_sets_are_at_zero) {
  const at::Tensor points = normals(64, 4, 3);
  EXPECT_LT(sliced_wasserstein(points, points.flip(0), 16, 5).w1, 1e-15);
  EXPECT_LT(sliced_wasserstein(points, points.flip(0), 16, 5).w2, 1e-15);
}

TEST(SlicedWasserstein, seed_fixes_the_directions) {
  const at::Tensor a = normals(64, 4, 3), b = normals(48, 4, 4);
  EXPECT_EQ(sliced_wasserstein(a, b, 16, 5).w1, sliced_wasserstein(a, b, 16, 5).w1);
  EXPECT_NE(sliced_wasserstein(a, b, 16, 5).w1, sliced_wasserstein(a, b, 16, 6).w1);
}

TEST(SlicedWasserstein, further_axes_and_float_samples_are_taken) {
  const at::Tensor a = normals(8, 6, 3), b = normals(8, 6, 4);
  const double flat = sliced_wasserstein(a, b, 16, 5).w1;
  EXPECT_NEAR(sliced_wasserstein(a.view({8, 2, 3}).to(at::kFloat), b, 16, 5).w1, flat, 1e-6);
}

TEST(SlicedWasserstein, value_that_is_not_finite_is_named) {
  at::Tensor bad = normals(8, 2, 3);
  bad[5][1] = NAN;
  try {
    sliced_wasserstein(bad, normals(8, 2, 4), 4, 5);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDiverged);
    EXPECT_NE(std::string(error.what()).find("number 5"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace tmd::evaluation
