// Stage 1 and MeanFlow against the equations of the paper, written down a second time in paper_stage1.h:
// losses, intermediate values and the gradient of every weight, with every switch.

#include <algorithm>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "method/stage1.h"
#include "paper_stage1.h"

namespace tmd::method {
namespace {

using at::Tensor;
using test::Stage1Inputs;

const auto here = [](bool flag) { return flag; };

struct Case {
  std::string name;
  std::function<void(Stage1Options&)> set;
  friend void PrintTo(const Case& which, std::ostream* out) { *out << which.name; }
};

// Every switch alone, and those whose effects meet.
const std::vector<Case>& cases() {
  static const std::vector<Case> list = {
      {"defaults", [](Stage1Options&) {}},
      {"tm", [](Stage1Options& o) { o.objective = Stage1Objective::kTm; }},
      {"clean_target", [](Stage1Options& o) { o.form.target = InnerTarget::kClean; }},
      {"average_velocity", [](Stage1Options& o) { o.form.output = HeadOutput::kAverageVelocity; }},
      {"clean_average_velocity",
       [](Stage1Options& o) {
         o.form = {InnerTarget::kClean, HeadOutput::kAverageVelocity};
       }},
      {"continuous", [](Stage1Options& o) { o.interval = Interval::kContinuous; }},
      {"four_by_four",
       [](Stage1Options& o) {
         o.grid_t = {0, 0.3, 0.9, 0.95, 0.999};
         o.grid_s = {0, 0.768, 0.908, 0.967, 0.999};
       }},
      {"one_by_one",
       [](Stage1Options& o) {
         o.grid_t = {0, 0.999, 0.999};
         o.grid_s = {0, 0.999};
       }},
      {"s_range",
       [](Stage1Options& o) {
         o.s_shift = 1.7;
         o.s_low = 0.02;
         o.s_high = 0.95;
       }},
      {"derivative_low", [](Stage1Options& o) { o.derivative_low = 0.57; }},
      {"delta", [](Stage1Options& o) { o.delta = 0.03; }},
      {"exact", [](Stage1Options& o) { o.derivative = Derivative::kExact; }},
      {"exact_clean",
       [](Stage1Options& o) {
         o.derivative = Derivative::kExact;
         o.form.target = InnerTarget::kClean;
       }},
      {"exact_predicted_continuous",
       [](Stage1Options& o) {
         o.derivative = Derivative::kExact;
         o.tangent = Tangent::kPredicted;
         o.interval = Interval::kContinuous;
       }},
      {"no_guidance", [](Stage1Options& o) { o.cfg = 1; }},
      {"guidance_1_7", [](Stage1Options& o) { o.cfg = 1.7; }},
      {"kappa", [](Stage1Options& o) { o.cfg_mix = 0.4; }},
      {"kappa_without_guidance",
       [](Stage1Options& o) {
         o.cfg = 1;
         o.cfg_mix = 0.4;
       }},
      {"kappa_average_velocity_predicted",
       [](Stage1Options& o) {
         o.cfg_mix = 0.4;
         o.form.output = HeadOutput::kAverageVelocity;
         o.tangent = Tangent::kPredicted;
       }},
      {"plain_tangent", [](Stage1Options& o) { o.tangent = Tangent::kPlain; }},
      {"predicted_tangent", [](Stage1Options& o) { o.tangent = Tangent::kPredicted; }},
      {"predicted_clean",
       [](Stage1Options& o) {
         o.tangent = Tangent::kPredicted;
         o.form.target = InnerTarget::kClean;
       }},
      {"detached", [](Stage1Options& o) { o.detach_features = true; }},
      {"detached_kappa_predicted",
       [](Stage1Options& o) {
         o.detach_features = true;
         o.cfg_mix = 0.4;
         o.tangent = Tangent::kPredicted;
       }},
      {"small_c", [](Stage1Options& o) { o.loss_c = 1.6e-4; }},
  };
  return list;
}

Stage1Options options_of(const Case& which) {
  Stage1Options options;
  options.loss_c = 16;
  which.set(options);
  return options;
}

Stage1Result run(bool mean, StudentNetwork& student, const Stage1Inputs& in, const Stage1Options& options) {
  const auto function = mean ? mean_flow : stage1;
  return function(student, in.x, in.text, in.negative, in.draws, options, here);
}

// Everything that the step returns, and the gradients of all weights.
void compare(const Case& which, at::ScalarType type, double tolerance, bool mean) {
  Stage1Options options = options_of(which);
  // Rounding of the head's output over 2 delta would be more than the tolerance.
  if (type == at::kFloat) options.delta *= 4;
  const Stage1Inputs in = test::stage1_inputs();
  const Tensor weights = test::some_weights({test::kStudentWeights});
  const Tensor w = test::leaf(weights, type), expected_w = test::leaf(weights, at::kDouble);
  test::PaperStudent student(w);
  test::PaperMeanFlowStudent mean_student(w);

  const Stage1Result actual = mean ? run(true, mean_student, test::in_type(in, type), options)
                                   : run(false, student, test::in_type(in, type), options);
  actual.loss.mean().backward();

  const test::PaperStage1 expected = test::paper_stage1(expected_w, in, options, mean);
  expected.loss.mean().backward();
  EXPECT_EQ(actual.S.scalar_type(), at::kDouble);
  EXPECT_EQ(actual.head.scalar_type(), type);
  test::expect_rows_close(actual.s, expected.s, 1e-15, "s");
  test::expect_rows_close(actual.r, expected.r, 1e-15, "r");
  test::expect_rows_close(actual.S, expected.S, tolerance, "S");
  test::expect_rows_close(actual.loss, expected.loss, tolerance, "loss");
  test::expect_rows_close(actual.y_s, expected.y_s, tolerance, "y_s");
  test::expect_rows_close(actual.head, expected.h, tolerance, "h");
  test::expect_rows_close(actual.target, expected.target, tolerance, "target");
  test::expect_rows_close(actual.y_guided, expected.y_guided, tolerance, "y_guided");
  test::expect_rows_close(actual.tangent, expected.tangent, tolerance, "tangent");
  if (!mean) {
    test::expect_rows_close(actual.t, expected.t, 1e-15, "t");
    test::expect_rows_close(actual.x_t, expected.x_t, tolerance, "x_t");
  }
  if (type == at::kDouble)
    test::expect_rows_close(actual.derivative, expected.derivative, tolerance, "dh/ds");
  const bool tm = options.objective == Stage1Objective::kTm;
  for (int k = 0; k < test::kStudentWeights; ++k) {
    if (options.detach_features && !mean && k < test::kBackboneWeights) {
      EXPECT_EQ(w.grad()[k].item<double>(), 0) << "backbone weight " << k;
    } else if (!(mean && k < 2) && !(tm && k == test::kGapWeight)) {
      EXPECT_GT(expected_w.grad()[k].abs().item<double>(), 1e-6) << "weight " << k << " has no effect";
    }
  }
  if (type == at::kDouble)
    for (int k = 0; k < test::kStudentWeights; ++k)
      test::expect_close(w.grad()[k], expected_w.grad()[k], tolerance, "gradient " + std::to_string(k));
  else
    test::expect_close(w.grad(), expected_w.grad(), tolerance, "gradient");
}

class Stage1Equations : public testing::TestWithParam<Case> {};
std::string name_of(const testing::TestParamInfo<Case>& info) { return info.param.name; }

}  // namespace

TEST_P(Stage1Equations, tm_mf_agrees_in_fp64) { compare(GetParam(), at::kDouble, 1e-10, false); }
TEST_P(Stage1Equations, tm_mf_agrees_in_fp32) { compare(GetParam(), at::kFloat, 1e-5, false); }
TEST_P(Stage1Equations, mean_flow_agrees_in_fp64) { compare(GetParam(), at::kDouble, 1e-10, true); }
TEST_P(Stage1Equations, mean_flow_agrees_in_fp32) { compare(GetParam(), at::kFloat, 1e-5, true); }
INSTANTIATE_TEST_SUITE_P(Switches, Stage1Equations, testing::ValuesIn(cases()), name_of);

// A rank may have to join passes that only others need: they must not change its numbers.
TEST(Stage1, joining_the_passes_of_other_ranks_changes_nothing) {
  const Stage1Inputs in = test::stage1_inputs();
  Stage1Options options = options_of(cases().front());
  for (bool tm : {false, true}) {
    options.objective = tm ? Stage1Objective::kTm : Stage1Objective::kTmMf;
    test::PaperStudent student(test::leaf(test::some_weights({test::kStudentWeights}), at::kDouble));
    const Stage1Result alone = run(false, student, in, options);
    const Stage1Result joined =
        stage1(student, in.x, in.text, in.negative, in.draws, options, [](bool) { return true; });
    EXPECT_TRUE(alone.loss.equal(joined.loss));
    EXPECT_TRUE(alone.derivative.equal(joined.derivative));
    EXPECT_TRUE(alone.target.equal(joined.target));
    alone.loss.sum().backward();
    const Tensor gradient = student.w.grad().clone();
    student.w.mutable_grad().reset();
    joined.loss.sum().backward();
    EXPECT_TRUE(gradient.equal(student.w.grad()));
  }
}

// With target and denominator held, which carry no gradient, the loss is a function of h alone; h comes from
// the product at moved weights.
TEST(Stage1, gradients_equal_finite_differences_of_the_loss_with_its_target_held) {
  const Stage1Inputs in = test::stage1_inputs();
  for (const char* name : {"defaults", "clean_target", "average_velocity", "kappa", "exact"}) {
    SCOPED_TRACE(name);
    const auto which =
        std::find_if(cases().begin(), cases().end(), [&](const Case& c) { return c.name == name; });
    const Stage1Options options = options_of(*which);
    const Tensor weights = test::some_weights({test::kStudentWeights});
    test::PaperStudent student(test::leaf(weights, at::kDouble));
    const Stage1Result at_start = run(false, student, in, options);
    at_start.loss.mean().backward();
    const auto loss_at = [&](int k, double step) {
      Tensor moved = weights.clone();
      moved[k] += step;
      test::PaperStudent other(test::leaf(moved, at::kDouble));
      const Tensor S = (run(false, other, in, options).head - at_start.target).square().flatten(1).sum(1);
      return (S / (at_start.S.detach() + options.loss_c)).mean().item<double>();
    };
    Tensor difference = at::zeros(test::kStudentWeights, at::kDouble);
    for (int k = 0; k < test::kStudentWeights; ++k)
      difference[k] = (loss_at(k, 1e-5) - loss_at(k, -1e-5)) / 2e-5;
    test::expect_close(student.w.grad(), difference, 1e-7, "gradient");
  }
}

namespace {

// A path with both sides free at every delta, and with one side only.
struct DerivativeErrors {
  std::vector<double> deltas, errors;
};
DerivativeErrors derivative_errors(double high, double first_delta) {
  at::manual_seed(8);
  const Tensor w = test::some_weights({test::kStudentWeights}), y = test::normal({2, 2, 1, 2, 2}),
               v = test::normal({2, 2, 1, 2, 2}), text = test::normal({2, 2, 3});
  const Tensor s = at::tensor({0.45, 0.7}, at::kDouble), r = at::tensor({0.05, 0.2}, at::kDouble);
  const auto m = test::student_backbone(w, test::normal({2, 2, 1, 2, 2}), s, text);
  const AlongPath f = [&](const Tensor& at_y, const Tensor& at_s) {
    return test::student_head(w, at_y, at_s, r, m);
  };
  const Tensor exact = exact_derivative(f, y, v, s);
  for (int64_t b = 0; b < 2; ++b) {  // and the exact one is that of an element at a time
    const method::StudentNetwork::MainFeature own{test::row(m.tokens, b), test::row(m.context, b)};
    const Tensor expected = test::paper_exact(
        [&](const Tensor& at_y, const Tensor& at_s) {
          return test::student_head(w, at_y, at_s, test::row(r, b), own);
        },
        test::row(y, b), test::row(v, b), s[b].item<double>());
    test::expect_close(test::row(exact, b), expected, 1e-13, "exact derivative");
  }
  DerivativeErrors out;
  for (double delta = first_delta; delta > 1e-9; delta /= 2) {
    const DifferenceSteps steps = difference_steps(s, r, {.delta = delta, .low = 0, .high = high});
    out.deltas.push_back(delta);
    out.errors.push_back((finite_difference(f, y, v, s, steps) - exact).abs().max().item<double>());
  }
  return out;
}

}  // namespace

TEST(FiniteDifference, error_falls_with_the_square_of_delta_until_rounding) {
  const auto [deltas, errors] = derivative_errors(0.999, 0.04);
  double best = 1;
  for (size_t k = 0; k + 1 < deltas.size(); ++k) {
    best = std::min(best, errors[k]);
    if (deltas[k + 1] < 2e-4) continue;  // below, rounding of order 1e-16 / delta shows
    EXPECT_NEAR(errors[k] / errors[k + 1], 4, 0.1) << "delta " << deltas[k];
  }
  EXPECT_LT(best, 1e-10);
  EXPECT_GT(errors.back(), 10 * best) << "rounding must show at delta " << deltas.back();
}

TEST(FiniteDifference, one_sided_error_falls_with_delta) {
  const auto [deltas, errors] = derivative_errors(0.45, 0.01);  // no room forward
  for (size_t k = 0; deltas[k + 1] > 1e-6; ++k)
    EXPECT_NEAR(errors[k] / errors[k + 1], 2, 0.05) << "delta " << deltas[k];
}

}  // namespace tmd::method
