#include "method/stage1.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "method/draws.h"
#include "method/grids.h"
#include "simple_networks.h"

namespace tmd::method {
namespace {

at::Tensor times(std::initializer_list<double> values) { return at::tensor(std::vector<double>(values), at::kDouble); }

const auto kHere = [](bool flag) { return flag; };

struct Inputs {
  at::Tensor x = at::randn({4, 1, 1, 1, 2}, at::kDouble), text = at::zeros({4, 1, 1}, at::kDouble),
             negative = at::zeros({1, 1, 1}, at::kDouble);
  Stage1Draws draws{.x_1 = at::randn_like(x),
                    .y_1 = at::randn_like(x),
                    .outer_index = at::tensor({1, 2, 2, 1}, at::kLong),
                    .s_uniform = times({0.2, 0.5, 0.9, 0.999}),
                    .flow_matching = at::tensor({0, 1, 0, 0}, at::kLong).to(at::kBool),
                    .drop_condition = at::zeros({4}, at::kBool)};
  Stage1Options options;
};

}  // namespace

TEST(DifferenceSteps, ends_of_the_range_allow_one_side_or_none) {
  Stage1Options options;
  //                               inside  s = r   s - delta <= r   near 0.999   0.994 exactly   at 0.999 = r
  const at::Tensor s = times({0.4, 0.5, 0.9105, 0.9971, 0.994, 0.999});
  const at::Tensor r = times({0.0, 0.5, 0.908, 0.908, 0.908, 0.999});

  const DifferenceSteps steps = difference_steps(s, r, options);

  EXPECT_TRUE((steps.plus > 0).equal(at::tensor({1, 1, 1, 0, 1, 0}, at::kLong).to(at::kBool)));
  EXPECT_TRUE((steps.minus > 0).equal(at::tensor({1, 0, 0, 1, 1, 0}, at::kLong).to(at::kBool)));
}

TEST(SnapDown, takes_the_largest_grid_point_below) {
  const at::Tensor r = snap_down(times({0.5, 0.907, 0.908, 0.95, 0.999}), student_grid(2, 10));

  EXPECT_TRUE(r.equal(times({0, 0, 0.908, 0.908, 0.999})));
}

// Shares of s = clamp(shift(U; 3)) in the intervals of the inner grid.
TEST(SnapDown, interval_shares_are_those_of_the_table) {
  std::vector<int64_t> slots(200'000);
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int64_t>(i);
  const at::Tensor u = draw_uniform({7, 1, slots}, Purpose::kInnerTime, 0.001, 0.999);
  const at::Tensor s = (3 * u / (2 * u + 1)).clamp(0.001, 0.999);
  const auto share = [&s](double low, double high) {
    return s.ge(low).logical_and(s.lt(high)).to(at::kDouble).mean().item<double>();
  };
  EXPECT_NEAR(share(0, 0.908), 0.767, 0.004);
  EXPECT_NEAR(share(0, 0.768), 0.525, 0.004);
  EXPECT_NEAR(share(0.768, 0.908), 0.243, 0.004);
  EXPECT_NEAR(share(0.908, 0.967), 0.140, 0.004);
}

// A head that is linear in y and s: every side of the difference is exact.
TEST(Stage1, finite_difference_of_a_linear_head_is_exact) {
  Inputs in;
  const double a = 0.7, b = -1.3;
  test::FormulaStudent student([&](const auto& y, const auto& s, const auto&, const auto&) { return a * y + b * s; });

  const Stage1Result result = stage1(student, in.x, in.text, in.negative, in.draws, in.options, kHere);

  const at::Tensor expected = a * result.tangent + b;
  for (int i : {0, 2}) EXPECT_LT((result.derivative[i] - expected[i]).abs().max().item<double>(), 1e-9) << i;
  EXPECT_EQ(result.derivative[1].abs().max().item<double>(), 0) << "r = s";
}

TEST(Stage1, target_and_loss_follow_the_equations) {
  Inputs in;
  in.options.cfg = 1;
  in.options.loss_c = 2;
  test::FormulaStudent student([](const auto& y, const auto& s, const auto&, const auto&) { return 0.5 * y + s; });

  const Stage1Result r = stage1(student, in.x, in.text, in.negative, in.draws, in.options, kHere);

  const at::Tensor y = in.draws.x_1 - in.x;
  const at::Tensor target = y - (r.s - r.r).view({-1, 1, 1, 1, 1}) * r.derivative;
  EXPECT_LT((r.target - target).abs().max().item<double>(), 1e-12);
  const at::Tensor squares = (r.head - target).square().flatten(1).sum(1);
  EXPECT_LT((r.loss - squares / (squares + 2)).abs().max().item<double>(), 1e-12);
}

TEST(Stage1, guidance_uses_the_negative_prompt_and_spares_dropped_samples) {
  Inputs in;
  in.draws.drop_condition = at::tensor({1, 0, 0, 0}, at::kLong).to(at::kBool);
  test::FormulaStudent student([](const auto& y, const auto&, const auto&, const auto&) { return at::full_like(y, 0.25); });

  const Stage1Result r = stage1(student, in.x, in.text, in.negative, in.draws, in.options, kHere);

  const at::Tensor y = in.draws.x_1 - in.x;
  EXPECT_TRUE(r.y_guided[0].equal(y[0]));
  EXPECT_LT((r.y_guided[1] - (0.25 + 3 * (y[1] - 0.25))).abs().max().item<double>(), 1e-12);
}

TEST(Stage1, samples_with_r_equal_s_do_not_depend_on_the_derivative) {
  Inputs in;
  in.draws.flow_matching = at::ones({4}, at::kBool);
  int calls_with_step = 0;
  test::FormulaStudent student([&](const auto& y, const auto& s, const auto& r, const auto&) {
    calls_with_step += (s != r).any().template item<bool>() ? 1 : 0;
    return y;
  });

  const Stage1Result r = stage1(student, in.x, in.text, in.negative, in.draws, in.options, kHere);

  EXPECT_EQ(calls_with_step, 0) << "no finite difference is computed";
  EXPECT_TRUE(r.target.equal(r.y_guided));
}

TEST(Stage1, rank_without_need_takes_part_when_another_rank_needs_the_derivative) {
  Inputs in;
  in.draws.flow_matching = at::ones({4}, at::kBool);
  const auto identity = [](const auto& y, const auto&, const auto&, const auto&) { return y; };
  test::FormulaStudent alone(identity), with_others(identity);

  stage1(alone, in.x, in.text, in.negative, in.draws, in.options, kHere);
  const Stage1Result r = stage1(with_others, in.x, in.text, in.negative, in.draws, in.options,
                                [](bool) { return true; });

  EXPECT_EQ(with_others.head_calls, alone.head_calls + 2);
  EXPECT_EQ(r.derivative.abs().max().item<double>(), 0);
}

TEST(Stage1, plain_transition_matching_sets_r_to_s) {
  Inputs in;
  in.options.objective = Stage1Objective::kTm;
  test::FormulaStudent student([](const auto& y, const auto&, const auto&, const auto&) { return y; });

  const Stage1Result r = stage1(student, in.x, in.text, in.negative, in.draws, in.options, kHere);

  EXPECT_TRUE(r.r.equal(r.s));
}

}  // namespace tmd::method
