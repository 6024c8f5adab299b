#include "method/generator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "method/grids.h"
#include "simple_networks.h"

namespace tmd::method {

// A head that answers the constant k: whatever N, y ends at 0.001 y_1 + 0.999 k.
TEST(InnerFlow, constant_head_gives_the_closed_form_for_every_step_count) {
  const at::Tensor y_1 = at::randn({2, 1, 1, 1, 3}, at::kDouble), k = at::full_like(y_1, 2.5);
  test::FormulaStudent student([&](const auto&, const auto&, const auto&, const auto&) { return k; });
  for (int n : {1, 2, 3, 4, 20}) {
    const at::Tensor y = test::roll_out_from(student, y_1, student_grid(n, 10));
    EXPECT_LT((y - (0.001 * y_1 + 0.999 * k)).abs().max().item<double>(), 1e-12) << n;
  }
}

// A head of plain transition matching has only ever seen r = s.
TEST(InnerFlow, instantaneous_velocities_are_asked_for_at_r_equals_s) {
  const at::Tensor y_1 = at::randn({2, 1, 1, 1, 3}, at::kDouble);
  std::vector<double> gaps;
  test::FormulaStudent student([&](const auto& y, const auto& s, const auto& r, const auto&) {
    gaps.push_back((s - r).max().template item<double>());
    return y;
  });

  test::roll_out_from(student, y_1, student_grid(2, 10), InnerVelocity::kInstantaneous);
  test::roll_out_from(student, y_1, student_grid(2, 10), InnerVelocity::kAverage);

  EXPECT_EQ(gaps[0], 0);
  EXPECT_EQ(gaps[1], 0);
  EXPECT_NEAR(gaps[2], 0.091, 1e-12);
  EXPECT_NEAR(gaps[3], 0.908, 1e-12);
}

// Eq. 16 counts passes through blocks: one backbone and N heads per outer step.
TEST(TmdGenerator, calls_the_backbone_once_and_the_head_n_times) {
  test::FormulaStudent student([](const auto& y, const auto&, const auto&, const auto&) { return y; });
  const at::Tensor x = at::randn({1, 1, 1, 1, 2}, at::kDouble);
  TmdGenerator generator(student, student_grid(4, 10));

  generator.outer_velocity(x, at::full({1}, 0.999, at::kDouble), at::zeros({1}, at::kDouble), {}, x);

  EXPECT_EQ(student.backbone_calls, 1);
  EXPECT_EQ(student.head_calls, 4);
  const int layers = 30, head_blocks = 5;
  const double blocks = student.backbone_calls * (layers - head_blocks) + student.head_calls * head_blocks;
  EXPECT_NEAR(blocks / layers, effective_nfe(1, 4, head_blocks, layers), 1e-12);
}

TEST(VelocityGenerator, is_the_network_itself) {
  test::FormulaVelocity network([](const auto& x, const auto& t, const auto&) { return x * t; });
  VelocityGenerator generator(network);
  const at::Tensor x = at::ones({2, 1, 1, 1, 1}, at::kDouble);

  const at::Tensor y = generator.outer_velocity(x, at::tensor({0.25, 0.5}, at::kDouble), {}, {}, {});

  EXPECT_EQ(y[0].item<double>(), 0.25);
  EXPECT_EQ(y[1].item<double>(), 0.5);
}

}  // namespace tmd::method
