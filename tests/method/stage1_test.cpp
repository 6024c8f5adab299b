#include "method/stage1.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "method/draws.h"
#include "method/flow.h"
#include "method/grids.h"
#include "simple_networks.h"

namespace tmd::method {
namespace {

at::Tensor times(std::initializer_list<double> values) {
  return at::tensor(std::vector<double>(values), at::kDouble);
}

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
  //                               inside  s = r   s - delta <= r   near 0.999   0.994 exactly   at 0.999 = r
  const at::Tensor s = times({0.4, 0.5, 0.9105, 0.9971, 0.994, 0.999});
  const at::Tensor r = times({0.0, 0.5, 0.908, 0.908, 0.908, 0.999});

  const DifferenceSteps steps = difference_steps(s, r, {});
  // A fine inner grid (N about 20) has a point at 0.994: between it and 0.999 neither side may be used.
  const DifferenceSteps none = difference_steps(times({0.9985}), times({0.994}), {});

  EXPECT_EQ(none.plus.item<double>() + none.minus.item<double>(), 0);
  EXPECT_TRUE((steps.plus > 0).equal(at::tensor({1, 1, 1, 0, 1, 0}, at::kLong).to(at::kBool)));
  EXPECT_TRUE((steps.minus > 0).equal(at::tensor({1, 0, 0, 1, 1, 0}, at::kLong).to(at::kBool)));
}

TEST(SnapDown, takes_the_largest_grid_point_below) {
  const at::Tensor r = snap_down(times({0.5, 0.907, 0.908, 0.95, 0.999}), student_grid(2, 10));

  EXPECT_TRUE(r.equal(times({0, 0, 0.908, 0.908, 0.999})));
}

// Which grid point r a sample without r = s gets, for s = clamp(shift(U; 3)) (method table of TMD App. A.2).
TEST(SnapDown, interval_shares_are_those_of_the_table) {
  std::vector<int64_t> slots(200'000);
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int64_t>(i);
  const at::Tensor u = draw_uniform({7, 1, slots}, Purpose::kInnerTime, 0.001, 0.999);
  const at::Tensor s = shifted_time(u, 3, 0.001, 0.999);
  const auto share = [&s](int n, double point) {
    return snap_down(s, student_grid(n, 10)).eq(point).to(at::kDouble).mean().item<double>();
  };
  EXPECT_NEAR(share(2, 0), 0.767, 0.004);
  EXPECT_NEAR(share(2, 0.908), 0.233, 0.004);
  EXPECT_NEAR(share(4, 0), 0.525, 0.004);
  EXPECT_NEAR(share(4, 0.768), 0.243, 0.004);
  EXPECT_NEAR(share(4, 0.908), 0.140, 0.004);
  EXPECT_NEAR(share(4, 0.967), 0.092, 0.004);
  // 0.2 % of the samples are clamped to exactly 0.999, where r = s.
  EXPECT_NEAR(snap_down(s, student_grid(2, 10)).eq(s).to(at::kDouble).mean().item<double>(), 0.002, 0.0007);
}

// A head that is linear in y and s: every side of the difference is exact.
TEST(Stage1, finite_difference_of_a_linear_head_is_exact) {
  Inputs in;
  const double a = 0.7, b = -1.3;
  test::FormulaStudent student(
      [&](const auto& y, const auto& s, const auto&, const auto&) { return a * y + b * s; });

  const Stage1Result result = stage1(student, in.x, in.text, in.negative, in.draws, in.options, kHere);

  const at::Tensor expected = a * result.tangent + b;
  for (int i : {0, 2}) EXPECT_LT((result.derivative[i] - expected[i]).abs().max().item<double>(), 1e-9) << i;
  EXPECT_EQ(result.derivative[1].abs().max().item<double>(), 0) << "r = s";
}

TEST(Stage1, one_sided_differences_of_a_linear_head_are_exact_and_none_is_zero) {
  Inputs in;
  const auto unshift = [](double s) { return s / (3 - 2 * s); };
  //                          forward only: s - delta <= r   backward only: s + delta > 0.999   at 0.999 = r
  in.draws.s_uniform = times({unshift(0.9105), unshift(0.9971), 0.999, unshift(0.5)});
  in.draws.flow_matching = at::zeros({4}, at::kBool);
  const double a = 0.7, b = -1.3;
  test::FormulaStudent student(
      [&](const auto& y, const auto& s, const auto&, const auto&) { return a * y + b * s; });

  const Stage1Result result = stage1(student, in.x, in.text, in.negative, in.draws, in.options, kHere);

  EXPECT_EQ(result.difference.minus[0].item<double>(), 0);
  EXPECT_EQ(result.difference.plus[1].item<double>(), 0);
  const at::Tensor expected = a * result.tangent + b;
  for (int i : {0, 1, 3})
    EXPECT_LT((result.derivative[i] - expected[i]).abs().max().item<double>(), 1e-9) << i;
  EXPECT_EQ(result.derivative[2].abs().max().item<double>(), 0);
}

// The exact average velocity is a fixed point of stage 1: with the marginal velocity as data the target is
// the head itself (TMD Eq. 8). A plus in front of (s - r) Dh, or a wrong tangent, moves the target away.
TEST(Stage1, target_of_the_exact_average_velocity_is_the_head_itself) {
  const double sd = 0.3, mean = 1.5, y_s = 0.9;
  const at::Tensor u = times({0.45, 0.6});
  const at::Tensor s = shifted_time(u, 3, 0.001, 0.999).view({2, 1, 1, 1, 1});
  const auto sigma = [sd](const at::Tensor& time) {
    return at::sqrt((1 - time).square() * sd * sd + time.square());
  };
  // marginal velocity of the inner path N(mean, sd^2) -> N(0, 1) at (y_s, s); y = y_s - s v and y_1 = y_s +
  // (1 - s) v
  const at::Tensor slope = (s - (1 - s) * sd * sd) / sigma(s).square();
  const at::Tensor v = -mean + slope * (y_s - (1 - s) * mean);
  const at::Tensor y_1 = y_s + (1 - s) * v, x = at::zeros_like(v);
  test::FormulaStudent student(
      [&](const at::Tensor& y, const at::Tensor& time, const at::Tensor& r, const at::Tensor&) {
        const at::Tensor end = (1 - r) * mean + (y - (1 - time) * mean) * sigma(r) / sigma(time);
        const at::Tensor gap = time - r;
        const at::Tensor average = at::where(gap > 0, (y - end) / gap.clamp_min(1e-12), at::zeros_like(y));
        return y_1 - average;  // u = y_1 - head, Eq. 14
      });
  Stage1Draws draws{.x_1 = y_s - s * v,
                    .y_1 = y_1,
                    .outer_index = at::tensor({2, 2}, at::kLong),
                    .s_uniform = u,
                    .flow_matching = at::zeros({2}, at::kBool),
                    .drop_condition = at::ones({2}, at::kBool)};
  Stage1Options options;
  options.delta = 1e-5;

  const Stage1Result result = stage1(student, x, at::zeros({2, 1, 1}, at::kDouble),
                                     at::zeros({1, 1, 1}, at::kDouble), draws, options, kHere);

  EXPECT_GT(result.derivative.abs().min().item<double>(), 0.01) << "the derivative matters here";
  EXPECT_LT((result.target - result.head).abs().max().item<double>(), 1e-6);
}

TEST(Stage1, target_and_loss_follow_the_equations) {
  Inputs in;
  in.options.cfg = 1;
  in.options.loss_c = 2;
  test::FormulaStudent student(
      [](const auto& y, const auto& s, const auto&, const auto&) { return 0.5 * y + s; });

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
  test::FormulaStudent student(
      [](const auto& y, const auto&, const auto&, const auto&) { return at::full_like(y, 0.25); });

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
  const Stage1Result r =
      stage1(with_others, in.x, in.text, in.negative, in.draws, in.options, [](bool) { return true; });

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
