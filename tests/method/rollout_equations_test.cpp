// Rollouts, outer steps and samplers against the equations of the paper, written down a second time in
// paper_stage2.h, one sample at a time.

#include <cmath>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "method/generator.h"
#include "method/samplers.h"
#include "paper_stage2.h"

namespace tmd::method {
namespace {

using at::Tensor;

const std::vector<std::vector<double>> grids = {
    {0, 0.999}, {0, 0.908, 0.999}, {0, 0.833, 0.952, 0.999}, {0, 0.768, 0.908, 0.967, 0.999}};
const std::vector<InnerForm> forms = {{InnerTarget::kVelocity, HeadOutput::kEstimate},
                                      {InnerTarget::kClean, HeadOutput::kEstimate},
                                      {InnerTarget::kVelocity, HeadOutput::kAverageVelocity},
                                      {InnerTarget::kClean, HeadOutput::kAverageVelocity}};

struct RolloutInputs {
  Tensor x_t = test::normal({3, 2, 2, 2, 2}), y_1 = test::normal({3, 2, 2, 2, 2}),
         text = test::normal({3, 2, 3}), direction = test::normal({3, 2, 2, 2, 2}),
         t = at::tensor({0.999, 0.62, 0.9}, at::kDouble),
         weights = test::some_weights({test::kStudentWeights});
};

std::string described(const std::vector<double>& grid, const InnerForm& form, InnerVelocity velocity) {
  return std::to_string(grid.size() - 1) + " steps, target " + std::to_string(static_cast<int>(form.target)) +
         ", output " + std::to_string(static_cast<int>(form.output)) + ", velocity " +
         std::to_string(static_cast<int>(velocity));
}

// The inner sample y, and gradients of all weights through every step and the backbone.
void compare_roll_outs(at::ScalarType type, double tolerance) {
  at::manual_seed(21);
  const RolloutInputs in;
  for (const auto& grid : grids)
    for (const InnerForm& form : forms)
      for (InnerVelocity velocity : {InnerVelocity::kAverage, InnerVelocity::kInstantaneous}) {
        SCOPED_TRACE(described(grid, form, velocity));
        const Tensor w = test::leaf(in.weights, type), expected_w = test::leaf(in.weights, at::kDouble);
        test::PaperStudent student(w);
        const Tensor x_t = in.x_t.to(type), y_1 = in.y_1.to(type);
        const auto m = student.backbone(x_t, in.t, in.text.to(type));
        InnerTrace trace;
        const Tensor y = roll_out({student, form, m, x_t, in.t, y_1}, grid, velocity, &trace);
        EXPECT_EQ(y.scalar_type(), type);
        (y * in.direction.to(type)).sum().backward();

        std::vector<Tensor> rows;
        for (int64_t b = 0; b < 3; ++b) {
          const test::PaperGenerator paper{expected_w, grid, form, velocity};
          const auto inner = paper.inner(test::row(in.x_t, b), in.t[b].item<double>(), test::row(in.text, b),
                                         test::row(in.y_1, b));
          rows.push_back(test::paper_roll_out(inner, grid, velocity));
        }
        (at::cat(rows) * in.direction).sum().backward();
        test::expect_rows_close(y, at::cat(rows), tolerance, "y");
        test::expect_close(w.grad(), expected_w.grad(), tolerance, "gradient");
        EXPECT_GT(expected_w.grad().slice(0, 0, test::kBackboneWeights).abs().min().item<double>(), 1e-3);
        ASSERT_EQ(trace.states.size(), grid.size() - 1);
        EXPECT_TRUE(trace.states.back().equal(y));
        EXPECT_FALSE(trace.states.back().requires_grad());
      }
}

}  // namespace

TEST(RollOut, agrees_with_the_paper_in_fp64) { compare_roll_outs(at::kDouble, 1e-10); }
TEST(RollOut, agrees_with_the_paper_in_fp32) { compare_roll_outs(at::kFloat, 1e-5); }

// y_hat = (1 - s_N) y_1 + sum of (s_j - s_{j-1}) h_j, whose weights are those of the spec's table.
TEST(RollOut, is_the_sum_of_its_estimates) {
  const RolloutInputs in;
  const std::vector<std::vector<double>> weights = {
      {0.999}, {0.091, 0.908}, {0.047, 0.119, 0.833}, {0.032, 0.059, 0.140, 0.768}};
  test::PaperStudent student(in.weights);
  const auto m = student.backbone(in.x_t, in.t, in.text);
  for (size_t n = 0; n < grids.size(); ++n)
    for (const InnerForm& form : forms) {
      InnerTrace trace;
      const Tensor y =
          roll_out({student, form, m, in.x_t, in.t, in.y_1}, grids[n], InnerVelocity::kAverage, &trace);
      ASSERT_EQ(trace.heads.size(), n + 1);
      Tensor sum = 0.001 * in.y_1;
      for (size_t j = 0; j <= n; ++j) sum = sum + weights[n][j] * trace.heads[j];
      test::expect_close(y, sum, 1e-12, described(grids[n], form, InnerVelocity::kAverage));
    }
}

TEST(OuterStepOfTwoKinds, agrees_with_equations_18_and_19) {
  const RolloutInputs in;
  for (at::ScalarType type : {at::kDouble, at::kFloat})
    for (OuterStep kind : {OuterStep::kDeterministic, OuterStep::kRenoise})
      for (double next : {0.908, 0.4, 0.0}) {
        const Tensor actual =
            outer_step(kind, in.x_t.to(type), in.y_1.to(type), 0.95, next, in.direction.to(type));
        EXPECT_EQ(actual.scalar_type(), type);
        test::expect_close(actual, test::paper_outer_step(kind, in.x_t, in.y_1, 0.95, next, in.direction),
                           type == at::kDouble ? 1e-14 : 2e-7, "step to " + std::to_string(next));
      }
}

// TMD Algorithm 1 with M = 3, and its inner noise drawn anew for every outer step.
TEST(SampleStudentSteps, agrees_with_algorithm_1) {
  const RolloutInputs in;
  const std::vector<double> grid_t = {0, 0.62, 0.9, 0.999};
  std::vector<Tensor> inner(4), outer(4);
  for (auto* list : {&inner, &outer})
    for (Tensor& noise : *list) noise = test::normal({3, 2, 2, 2, 2});
  for (at::ScalarType type : {at::kDouble, at::kFloat})
    for (OuterStep kind : {OuterStep::kDeterministic, OuterStep::kRenoise})
      for (const InnerForm& form : forms) {
        test::PaperStudent student(in.weights.to(type));
        TmdGenerator generator(student, grids[1], form);
        std::vector<int> asked_inner, asked_outer, seen;
        Tensor last;
        const Tensor actual = sample_student_steps(
            generator, in.x_t.to(type), in.text.to(type), grid_t, kind,
            [&](int i) {
              asked_inner.push_back(i);
              return inner[i].to(type);
            },
            [&](int i) {
              asked_outer.push_back(i);
              return outer[i].to(type);
            },
            [&](int step, const Tensor& state) {
              seen.push_back(step);
              last = state;
            });
        const test::PaperGenerator paper{in.weights, grids[1], form};
        std::vector<Tensor> rows;
        for (int64_t b = 0; b < 3; ++b) {
          Tensor x = test::row(in.x_t, b);
          for (int i = 3; i >= 1; --i) {
            const Tensor y_hat = paper.y_hat(x, grid_t[i], test::row(in.text, b), test::row(inner[i], b));
            x = test::paper_outer_step(kind, x, y_hat, grid_t[i], grid_t[i - 1], test::row(outer[i], b));
          }
          rows.push_back(x);
        }
        test::expect_rows_close(actual, at::cat(rows), type == at::kDouble ? 1e-10 : 1e-5, "sample");
        EXPECT_EQ(actual.scalar_type(), type);
        EXPECT_EQ(asked_inner, (std::vector{3, 2, 1}));
        EXPECT_EQ(asked_outer, kind == OuterStep::kRenoise ? (std::vector{3, 2}) : std::vector<int>{});
        EXPECT_EQ(seen, (std::vector{0, 1, 2}));
        EXPECT_TRUE(last.equal(actual));
      }
}

// The last step of the sampler returns the x_hat that stage 2 trains.
TEST(SampleStudentSteps, last_step_returns_x_hat_of_stage_2) {
  test::Stage2Inputs in = test::stage2_inputs();
  in.draws.outer_index = at::ones({6}, at::kLong);
  const Stage2Options options = test::stage2_options();
  test::PaperStudent student(test::stage2_weights().student);
  TmdGenerator generator(student, options.grid_s);
  const StudentSample sample = sample_student(generator, in.x, in.text, in.draws, options);
  for (OuterStep kind : {OuterStep::kDeterministic, OuterStep::kRenoise}) {
    const Tensor stepped = sample_student_steps(generator, sample.x_t, in.text, {0, options.grid_t[1]}, kind,
                                                [&](int) { return in.draws.y_1; }, {});
    test::expect_close(stepped, sample.x_hat, 1e-14, "x_hat");
  }
}

// DMD2-v and MeanFlow as generators: the velocity, and u(x, t, next).
TEST(Generators, without_inner_flow_ignore_inner_noise) {
  const RolloutInputs in;
  const Tensor next = at::tensor({0.9, 0.0, 0.62}, at::kDouble),
               w = test::some_weights({test::kVelocityWeights});
  test::PaperVelocity network(w);
  VelocityGenerator velocity(network);
  test::PaperMeanFlowStudent student(in.weights);
  MeanFlowGenerator mean_flow(student);
  std::vector<Tensor> v, u;
  for (int64_t b = 0; b < 3; ++b) {
    const Tensor x = test::row(in.x_t, b), t = test::row(in.t, b), text = test::row(in.text, b);
    v.push_back(test::velocity_formula(w, x, t, text));
    const auto m = test::PaperMeanFlowStudent::mean_flow_feature(in.weights, x, text);
    u.push_back(test::student_head(in.weights, x, t, test::row(next, b), m));
  }
  for (const Tensor& y_1 : {in.y_1, Tensor()}) {
    test::expect_rows_close(velocity.outer_velocity(in.x_t, in.t, next, in.text, y_1), at::cat(v), 1e-13,
                            "v");
    test::expect_rows_close(mean_flow.outer_velocity(in.x_t, in.t, next, in.text, y_1), at::cat(u), 1e-13,
                            "u");
  }
}

// x <- x + (sigma' - sigma) (v_neg + w (v - v_neg)) with the time that the network is told.
TEST(SampleEuler, agrees_with_its_formula_for_guidance_and_model_time) {
  const RolloutInputs in;
  const Tensor negative = test::normal({1, 2, 3}), w = test::some_weights({test::kVelocityWeights});
  const std::vector<double> sigmas = {0.9994, 0.8337, 0.5101, 0};
  for (at::ScalarType type : {at::kDouble, at::kFloat})
    for (double cfg : {1.0, 5.0})
      for (ModelTime kind : {ModelTime::kInteger, ModelTime::kExact}) {
        test::PaperVelocity network(w.to(type));
        const Tensor actual = sample_euler(network, in.x_t.to(type), in.text.to(type), negative.to(type),
                                           sigmas, {.cfg = cfg, .model_time = kind});
        std::vector<Tensor> rows;
        for (int64_t b = 0; b < 3; ++b) {
          Tensor x = test::row(in.x_t, b);
          for (size_t k = 0; k + 1 < sigmas.size(); ++k) {
            const double told = kind == ModelTime::kInteger ? std::floor(1000 * sigmas[k]) / 1000 : sigmas[k];
            const Tensor v = test::velocity_formula(w, x, test::one(told), test::row(in.text, b)),
                         v_negative = test::velocity_formula(w, x, test::one(told), negative);
            x = x + (sigmas[k + 1] - sigmas[k]) * (cfg * v + (1 - cfg) * v_negative);
          }
          rows.push_back(x);
        }
        test::expect_rows_close(actual, at::cat(rows), type == at::kDouble ? 1e-10 : 1e-5, "sample");
      }
}

}  // namespace tmd::method
