#include "evaluation/feature_scale.h"

#include <array>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::evaluation {
namespace {

TEST(FeatureScale, real_set_gets_mean_zero_and_deviation_one) {
  const at::Tensor real = at::tensor({1.0, 10.0, 2.0, 30.0, 3.0, 80.0}, at::kDouble).view({3, 2});
  const at::Tensor scaled = fit_feature_scale(real, std::array{1e-9, 1e-9}).apply(real);
  EXPECT_LT(scaled.mean(0).abs().max().item<double>(), 1e-12);
  EXPECT_LT((scaled.std(0) - 1).abs().max().item<double>(), 1e-12);
}

TEST(FeatureScale, feature_that_hardly_varies_gets_the_smallest_scale) {
  const at::Tensor real = at::tensor({5.0, 5.0, 5.001}, at::kDouble).view({3, 1});
  const FeatureScale scale = fit_feature_scale(real, std::array{0.5});
  EXPECT_EQ(scale.scale[0].item<double>(), 0.5);
  EXPECT_NEAR(scale.apply(real + 1)[0][0].item<double>(), 2, 1e-2);
}

TEST(FeatureScale, other_number_of_scales_or_none_above_zero_is_an_error) {
  const at::Tensor real = at::tensor({1.0, 2.0}, at::kDouble).view({2, 1});
  EXPECT_THROW(fit_feature_scale(real, std::array{1.0, 1.0}), Error);
  EXPECT_THROW(fit_feature_scale(real, std::array{0.0}), Error);
}

}  // namespace
}  // namespace tmd::evaluation
