#include "sharding/adamw.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../support/test_mesh.h"

namespace tmd::sharding {
namespace {

// One parameter of two elements, one with its own rate and without decay.
class TwoParameters : public testing::Test {
 protected:
  TwoParameters()
      : network_(
            "net",
            {{"unit",
              {{"a", {2}, Initialiser::constant(1)}, {"gate", {1}, Initialiser::constant(1), 100, false}}}},
            one_.mesh, at::kDouble, true, one_.buffers) {
    for (auto& segment : network_.shard(0).segments) {
      network_.shard(0).master.narrow(0, segment.shard_offset, segment.slice.elements()).fill_(1);
      network_.shard(0).gradient.narrow(0, segment.shard_offset, segment.slice.elements()).fill_(0.5);
    }
  }
  test::SingleMesh one_;
  ShardedNetwork network_;
};

// The formulas written out, for two steps with a constant gradient g.
double reference(double lr, double decay, double g, int steps) {
  double p = 1, m = 0, v = 0;
  for (int t = 1; t <= steps; ++t) {
    p *= 1 - lr * decay;
    m = 0.9 * m + 0.1 * g;
    v = 0.99 * v + 0.01 * g * g;
    p -= lr * (m / (1 - std::pow(0.9, t))) / (std::sqrt(v / (1 - std::pow(0.99, t))) + 1e-8);
  }
  return p;
}

}  // namespace

TEST_F(TwoParameters, steps_equal_the_written_out_formula) {
  AdamW adamw(network_);
  for (int i = 0; i < 2; ++i) adamw.step({.lr = 1e-2, .weight_decay = 0.1}, 1);

  EXPECT_NEAR(network_.full_parameter("a")[0].item<double>(), reference(1e-2, 0.1, 0.5, 2), 1e-14);
  EXPECT_NEAR(network_.full_parameter("gate").item<double>(), reference(1.0, 0, 0.5, 2), 1e-13);
  EXPECT_EQ(adamw.steps(), 2);
}

TEST_F(TwoParameters, clip_factor_scales_the_gradient) {
  AdamW adamw(network_);
  const double norm = gradient_norm({&network_});
  EXPECT_NEAR(norm, std::sqrt(3 * 0.25), 1e-14);
  EXPECT_EQ(clip_factor(norm, 0), 1);
  EXPECT_EQ(clip_factor(norm, 10), 1);
  EXPECT_NEAR(clip_factor(norm, 0.1), 0.1 / (norm + 1e-6), 1e-15);

  adamw.step({.lr = 1e-2, .weight_decay = 0}, 0.5);

  EXPECT_NEAR(network_.full_parameter("a")[0].item<double>(), reference(1e-2, 0, 0.25, 1), 1e-14);
}

TEST_F(TwoParameters, average_follows_and_can_be_swapped_in_and_out) {
  ExponentialAverage average(network_);
  network_.shard(0).master.mul_(3);
  average.update(network_, 0.75);  // 0.75 * 1 + 0.25 * 3

  average.swap(network_);
  EXPECT_NEAR(network_.full_parameter("a")[0].item<double>(), 1.5, 1e-15);
  average.swap(network_);
  EXPECT_NEAR(network_.full_parameter("a")[0].item<double>(), 3, 1e-15);
}

}  // namespace tmd::sharding
