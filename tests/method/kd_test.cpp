#include "method/kd.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "method/grids.h"
#include "simple_networks.h"

namespace tmd::method {

// L = 0.5 mean((x_hat - x)^2) with x_hat = x_t - t v(x_t) and x_t = t x_1, worked out element by element.
TEST(KdStep, is_half_the_mean_square_to_the_teachers_video) {
  const double t = 0.999, w = 0.3;
  const at::Tensor weight = at::full({}, w, at::kDouble).requires_grad_(true);
  test::FormulaVelocity network(
      [&](const auto& x, const auto& time, const auto&) { return weight * x * time; });
  VelocityGenerator generator(network);
  const at::Tensor x = at::randn({3, 2, 1, 2, 2}, at::kDouble), x_1 = at::randn_like(x);

  const KdResult result = kd_step(generator, x, x_1, {}, {}, {.t = t});

  const int64_t d = x[0].numel();
  for (int64_t b = 0; b < 3; ++b) {
    double sum = 0, slope = 0;
    for (int64_t i = 0; i < d; ++i) {
      const double noise = t * x_1[b].flatten()[i].item<double>();
      const double error = noise - t * w * noise * t - x[b].flatten()[i].item<double>();
      sum += error * error;
      slope += error * -t * noise * t;
    }
    EXPECT_NEAR(result.loss[b].item<double>(), 0.5 * sum / static_cast<double>(d), 1e-12);
    const at::Tensor gradient = torch::autograd::grad({result.loss[b]}, {weight}, {}, true)[0];
    EXPECT_NEAR(gradient.item<double>(), slope / static_cast<double>(d), 1e-12);
  }
}

TEST(KdStep, rolls_the_flow_head_out_and_knows_both_forms_of_x_hat) {
  test::FormulaStudent student(
      [](const auto& y, const auto& s, const auto&, const auto& x_t) { return 0.5 * y + s - 0.2 * x_t; });
  TmdGenerator generator(student, student_grid(2, 10));
  const at::Tensor x = at::randn({2, 1, 1, 1, 3}, at::kDouble), x_1 = at::randn_like(x),
                   y_1 = at::randn_like(x);

  const KdResult standard = kd_step(generator, x, x_1, {}, y_1, {.t = 0.999});
  const KdResult printed = kd_step(generator, x, x_1, {}, y_1, {.t = 0.999, .x_hat = XHat::kX1MinusY});

  EXPECT_EQ(student.head_calls, 4);
  // x_t - t y = t (x_1 - y)
  EXPECT_LT((standard.x_hat - 0.999 * printed.x_hat).abs().max().item<double>(), 1e-12);
  EXPECT_FALSE(standard.x_hat.requires_grad());
}

}  // namespace tmd::method
