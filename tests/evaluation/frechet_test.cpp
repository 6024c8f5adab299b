#include "evaluation/frechet.h"

#include <cmath>

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

at::Tensor diagonal(std::initializer_list<double> values) {
  return at::diag(at::tensor(at::ArrayRef<double>(values), at::kDouble));
}

TEST(FitGaussian, mean_and_unbiased_covariance) {
  const GaussianFit fit = fit_gaussian(at::tensor({0.0, 0.0, 2.0, 4.0}, at::kDouble).view({2, 2}));
  EXPECT_TRUE(at::equal(fit.mean, at::tensor({1.0, 2.0}, at::kDouble)));
  EXPECT_TRUE(at::equal(fit.covariance, at::tensor({2.0, 4.0, 4.0, 8.0}, at::kDouble).view({2, 2})));
}

TEST(FitGaussian, one_sample_is_an_error) { EXPECT_THROW(fit_gaussian(at::ones({1, 2})), Error); }

TEST(Frechet, commuting_covariances_have_the_closed_form) {
  const GaussianFit a{at::tensor({1.0, 2.0}, at::kDouble), diagonal({4, 9})};
  const GaussianFit b{at::tensor({4.0, 6.0}, at::kDouble), diagonal({1, 25})};
  EXPECT_NEAR(frechet_distance(a, b), 25 + (2 - 1) * (2 - 1) + (3 - 5) * (3 - 5), 1e-10);
}

TEST(Frechet, two_dimensional_covariances_that_do_not_commute) {
  // For 2 x 2: tr (AB)^1/2 = sqrt(tr AB + 2 sqrt(det AB)).
  const at::Tensor a = at::tensor({2.0, 1.0, 1.0, 3.0}, at::kDouble).view({2, 2});
  const at::Tensor b = at::tensor({5.0, -2.0, -2.0, 1.0}, at::kDouble).view({2, 2});
  const double trace = a.matmul(b).trace().item<double>();
  const double root = std::sqrt(trace + 2 * std::sqrt(5.0 * 1.0));
  const at::Tensor mean = at::zeros({2}, at::kDouble);
  EXPECT_NEAR(frechet_distance({mean, a}, {mean, b}), 5 + 6 - 2 * root, 1e-10);
  EXPECT_NEAR(frechet_distance({mean, b}, {mean, a}), 5 + 6 - 2 * root, 1e-10);
}

TEST(Frechet, same_set_is_at_zero_also_with_a_singular_covariance) {
  const at::Tensor points = normals(50, 3, 1);
  const at::Tensor singular = at::cat({points, points, at::ones({50, 1}, at::kDouble)}, 1);
  EXPECT_NEAR(frechet_distance(points, points), 0, 1e-12);
  EXPECT_NEAR(frechet_distance(singular, singular), 0, 1e-12);
}

TEST(Frechet, singular_against_regular_covariance) {
  const at::Tensor mean = at::zeros({2}, at::kDouble);
  EXPECT_NEAR(frechet_distance({mean, diagonal({4, 0})}, {mean, diagonal({1, 9})}), 1 + 9, 1e-12);
}

TEST(Frechet, shifted_samples_are_at_the_squared_shift) {
  const at::Tensor points = normals(200, 4, 1);
  EXPECT_NEAR(frechet_distance(points, points + 0.5), 4 * 0.25, 1e-10);
}

TEST(Frechet, other_dimensions_are_an_error) {
  EXPECT_THROW(frechet_distance(normals(9, 2, 1), normals(9, 3, 1)), Error);
}

}  // namespace
}  // namespace tmd::evaluation
