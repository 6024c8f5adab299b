#include "data/toy_mixture.h"

#include <cmath>
#include <numeric>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace tmd::data {
namespace {

constexpr int64_t kPoints = 20000;

TEST(ToyMixture, weights_and_centres) {
  for (bool equal : {true, false}) {
    const auto weights = toy_mixture_weights({equal});
    EXPECT_NEAR(std::accumulate(weights.begin(), weights.end(), 0.0), 1, 1e-12);
  }
  EXPECT_EQ(toy_mixture_weights({false}).front(), 0.30);
  EXPECT_EQ(toy_mixture_weights({false}).back(), 0.03);
  const auto centres = toy_mixture_centres();
  for (int64_t k = 0; k < kToyModes; ++k) {
    EXPECT_NEAR(centres[k][0], 4 * std::cos(static_cast<double>(k) * std::acos(-1.0) / 4), 1e-12);
    EXPECT_NEAR(centres[k][1], 4 * std::sin(static_cast<double>(k) * std::acos(-1.0) / 4), 1e-12);
  }
}

TEST(ToyMixture, points_follow_the_mixture) {
  for (bool equal : {true, false}) {
    std::array<double, kToyModes> counts = {};
    double squares = 0, sum = 0;
    for (int64_t i = 0; i < kPoints; ++i) {
      const ToyPoint point = toy_mixture_point({equal}, 1, i);
      const auto centre = toy_mixture_centres()[point.mode];
      const double dx = point.x - centre[0], dy = point.y - centre[1];
      ASSERT_LT(std::hypot(dx, dy), 6 * kToyModeStd);
      ++counts[point.mode];
      squares += dx * dx + dy * dy;
      sum += dx + dy;
    }
    EXPECT_NEAR(std::sqrt(squares / (2 * kPoints)), kToyModeStd, 0.004);
    EXPECT_NEAR(sum / (2 * kPoints), 0, 0.005);
    const auto weights = toy_mixture_weights({equal});
    for (int64_t k = 0; k < kToyModes; ++k) {
      EXPECT_NEAR(counts[k] / kPoints, weights[k], 5 * std::sqrt(weights[k] / kPoints)) << k;
    }
  }
}

TEST(ToyMixture, latents_are_scaled_points) {
  const at::Tensor latents = toy_mixture_latents({}, 7, 100, 50);
  ASSERT_EQ(latents.sizes(), at::IntArrayRef({50, 2, 1, 1, 1}));
  for (int64_t i : {0, 49}) {
    const ToyPoint point = toy_mixture_point({}, 7, 100 + i);
    EXPECT_FLOAT_EQ(latents[i][0].item<float>() * 3, static_cast<float>(point.x));
    EXPECT_FLOAT_EQ(latents[i][1].item<float>() * 3, static_cast<float>(point.y));
  }
  EXPECT_NEAR(toy_mixture_latents({}, 7, 0, kPoints).std().item<float>(), 0.945, 0.01);
  EXPECT_NE(toy_mixture_point({}, 7, 0).x, toy_mixture_point({}, 8, 0).x);
}

}  // namespace
}  // namespace tmd::data
