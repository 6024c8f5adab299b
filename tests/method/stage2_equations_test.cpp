// Stage 2 against the equations of the paper, written down a second time in paper_stage2.h: samples, losses
// and the gradient of every weight, with every switch.

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "method/stage2.h"
#include "paper_stage2.h"

namespace tmd::method {
namespace {

using at::Tensor;
using test::Stage2Inputs;
using test::Stage2Weights;

struct Case {
  std::string name;
  std::function<void(Stage2Options&)> set;
  InnerVelocity velocity = InnerVelocity::kAverage;
  friend void PrintTo(const Case& which, std::ostream* out) { *out << which.name; }
};

void simulate(Stage2Options& o, OuterStep kind) {
  o.input = OuterInput::kSimulation;
  o.outer_step = kind;
}

const std::vector<Case>& cases() {
  static const std::vector<Case> list = {
      {"defaults", [](Stage2Options&) {}},
      {"printed_norm", [](Stage2Options& o) { o.vsd_norm = VsdNorm::kFakeMinusTeacher; }},
      {"printed_x_hat", [](Stage2Options& o) { o.x_hat = XHat::kX1MinusY; }},
      {"no_guidance", [](Stage2Options& o) { o.cfg = 1; }},
      {"guidance_2", [](Stage2Options& o) { o.cfg = 2; }},
      {"no_gan", [](Stage2Options& o) { o.gan_weight = 0; }},
      {"fake_features", [](Stage2Options& o) { o.features = FeatureSource::kFake; }},
      {"independent_real_noise", [](Stage2Options& o) { o.real_noise = RealNoise::kIndependent; }},
      {"r1", [](Stage2Options& o) { o.r1_weight = 3; }},
      {"r1_independent_fake_features",
       [](Stage2Options& o) {
         o.r1_weight = 3;
         o.r1_sigma = 0.3;
         o.real_noise = RealNoise::kIndependent;
         o.features = FeatureSource::kFake;
       }},
      {"no_rollout", [](Stage2Options& o) { o.rollout = false; }},
      {"no_rollout_clean",
       [](Stage2Options& o) {
         o.rollout = false;
         o.form.target = InnerTarget::kClean;
       }},
      {"no_rollout_average_velocity",
       [](Stage2Options& o) {
         o.rollout = false;
         o.form.output = HeadOutput::kAverageVelocity;
       }},
      {"clean_target", [](Stage2Options& o) { o.form.target = InnerTarget::kClean; }},
      {"clean_printed_x_hat",
       [](Stage2Options& o) {
         o.form.target = InnerTarget::kClean;
         o.x_hat = XHat::kX1MinusY;
       }},
      {"average_velocity", [](Stage2Options& o) { o.form.output = HeadOutput::kAverageVelocity; }},
      {"simulation", [](Stage2Options& o) { simulate(o, OuterStep::kDeterministic); }},
      {"simulation_renoise", [](Stage2Options& o) { simulate(o, OuterStep::kRenoise); }},
      {"simulation_renoise_clean",
       [](Stage2Options& o) {
         simulate(o, OuterStep::kRenoise);
         o.form.target = InnerTarget::kClean;
       }},
      {"renoise_without_simulation", [](Stage2Options& o) { o.outer_step = OuterStep::kRenoise; }},
      {"td_range",
       [](Stage2Options& o) {
         o.td_shift = 1;
         o.td_low = 0.1;
         o.td_high = 0.6;
       }},
      {"four_inner_steps",
       [](Stage2Options& o) {
         o.grid_s = {0, 0.768, 0.908, 0.967, 0.999};
       }},
      {"one_inner_step",
       [](Stage2Options& o) {
         o.grid_s = {0, 0.999};
       }},
      {"instantaneous", [](Stage2Options&) {}, InnerVelocity::kInstantaneous},
  };
  return list;
}

// Everything that a step is called with.
struct Setting {
  Setting(const Case& which, at::ScalarType type, bool critic)
      : options(test::stage2_options()), velocity(which.velocity) {
    which.set(options);
    const Stage2Weights values = test::stage2_weights();
    weights = {test::leaf(values.student, type), test::leaf(values.teacher, type, false),
               test::leaf(values.fake, type, critic), test::leaf(values.discriminator, type, critic)};
  }
  bool gan() const { return options.gan_weight > 0; }

  Stage2Options options;
  InnerVelocity velocity;
  Stage2Weights weights;
};

struct Product : Setting {
  using Setting::Setting;
  test::PaperStudent network{weights.student};
  TmdGenerator generator{network, options.grid_s, options.form, velocity};
  test::PaperVelocity teacher{weights.teacher}, fake{weights.fake};
  test::PaperDiscriminator discriminator{weights.discriminator};

  StudentStep student_update(const Stage2Inputs& in) {
    return student_step(generator, teacher, fake, gan() ? &discriminator : nullptr, in.x, in.text,
                        in.negative, in.draws, options);
  }
  CriticStep critic_update(const Stage2Inputs& in) {
    return critic_step(generator, teacher, fake, gan() ? &discriminator : nullptr, in.x, in.text, in.draws,
                       options);
  }
};

struct Paper : Setting {
  using Setting::Setting;
  test::PaperGenerator generator{weights.student, options.grid_s, options.form, velocity};
};

void compare_samples(const StudentSample& actual, const test::PaperBatch& expected, double tolerance) {
  test::expect_rows_close(actual.x_t, at::cat(expected.x_t), tolerance, "x_t");
  test::expect_rows_close(actual.y_hat, at::cat(expected.y_hat), tolerance, "y_hat");
  test::expect_rows_close(actual.x_hat, at::cat(expected.x_hat), tolerance, "x_hat");
  test::expect_rows_close(actual.xh_t, at::cat(expected.xh_t), tolerance, "xh_t");
}

void compare_gradients(const Tensor& actual, const Tensor& expected, double tolerance,
                       const std::string& name) {
  ASSERT_TRUE(actual.grad().defined() && expected.grad().defined()) << name;
  const Tensor got = actual.grad().flatten(), wanted = expected.grad().flatten();
  if (got.scalar_type() != at::kDouble) return test::expect_close(got, wanted, tolerance, name);
  for (int64_t k = 0; k < wanted.size(0); ++k)
    test::expect_close(got[k], wanted[k], tolerance, "gradient of " + name + " " + std::to_string(k));
}

void compare_student(const Case& which, at::ScalarType type, double tolerance) {
  const Stage2Inputs in = test::stage2_inputs();
  Product product(which, type, false);
  Paper paper(which, at::kDouble, false);

  const StudentStep actual = product.student_update(test::in_type(in, type));
  actual.loss.mean().backward();

  const test::PaperStudentStep expected =
      test::paper_student_step(paper.weights, paper.generator, in, paper.options);
  expected.loss.mean().backward();
  EXPECT_EQ(actual.loss.scalar_type(), at::kDouble);
  compare_samples(actual.sample, expected.batch, tolerance);
  test::expect_rows_close(actual.g_fake, expected.g_fake, tolerance, "g_F");
  test::expect_rows_close(actual.g_teacher, expected.g_teacher, tolerance, "g_T");
  test::expect_rows_close(actual.vsd_weight, expected.weight, tolerance, "w");
  test::expect_rows_close(actual.vsd, expected.vsd, tolerance, "vsd");
  test::expect_rows_close(actual.loss, expected.loss, tolerance, "loss");
  EXPECT_EQ(actual.gan.defined(), product.gan());
  EXPECT_EQ(actual.logits_fake.defined(), product.gan());
  if (product.gan()) {
    test::expect_rows_close(actual.gan, expected.gan, tolerance, "gan");
    test::expect_rows_close(actual.logits_fake, expected.logits, tolerance, "logits");
  }
  compare_gradients(product.weights.student, paper.weights.student, tolerance, "student");
  for (int k = 0; k < test::kStudentWeights; ++k) {
    const bool unused = which.velocity == InnerVelocity::kInstantaneous && k == test::kGapWeight;
    EXPECT_EQ(product.weights.student.grad()[k].item<double>() == 0, unused) << "weight " << k;
  }
}

void compare_critic(const Case& which, at::ScalarType type, double tolerance) {
  const Stage2Inputs in = test::stage2_inputs();
  Product product(which, type, true);
  Paper paper(which, at::kDouble, true);

  const CriticStep actual = product.critic_update(test::in_type(in, type));
  actual.loss.mean().backward();

  const test::PaperCriticStep expected =
      test::paper_critic_step(paper.weights, paper.generator, in, paper.options);
  expected.loss.mean().backward();
  EXPECT_EQ(actual.loss.scalar_type(), at::kDouble);
  compare_samples(actual.sample, expected.batch, tolerance);
  test::expect_rows_close(actual.g_fake, expected.g_fake, tolerance, "g_F");
  test::expect_rows_close(actual.fake, expected.fake, tolerance, "fake loss");
  test::expect_rows_close(actual.loss, expected.loss, tolerance, "loss");
  EXPECT_EQ(actual.discriminator.defined(), product.gan());
  EXPECT_EQ(actual.r1.defined(), product.gan() && product.options.r1_weight > 0);
  if (actual.discriminator.defined()) {
    test::expect_rows_close(actual.discriminator, expected.discriminator, tolerance, "discriminator loss");
    test::expect_rows_close(actual.logits_fake, expected.logits_fake, tolerance, "logits of fakes");
    test::expect_rows_close(actual.logits_real, expected.logits_real, tolerance, "logits of reals");
    compare_gradients(product.weights.discriminator, paper.weights.discriminator, tolerance, "discriminator");
  }
  // The square of a small difference of logits: in float32 it is compared with the largest one.
  if (actual.r1.defined()) test::expect_close(actual.r1, expected.r1, tolerance, "r1");
  if (actual.r1.defined() && type == at::kDouble)
    test::expect_rows_close(actual.r1, expected.r1, tolerance, "r1");
  compare_gradients(product.weights.fake, paper.weights.fake, tolerance, "fake score");
  EXPECT_FALSE(product.weights.student.grad().defined()) << "the critic's step reached the student";
}

class Stage2Equations : public testing::TestWithParam<Case> {};
std::string name_of(const testing::TestParamInfo<Case>& info) { return info.param.name; }

}  // namespace

TEST_P(Stage2Equations, student_step_agrees_in_fp64) { compare_student(GetParam(), at::kDouble, 1e-10); }
TEST_P(Stage2Equations, student_step_agrees_in_fp32) { compare_student(GetParam(), at::kFloat, 1e-5); }
TEST_P(Stage2Equations, critic_step_agrees_in_fp64) { compare_critic(GetParam(), at::kDouble, 1e-10); }
TEST_P(Stage2Equations, critic_step_agrees_in_fp32) { compare_critic(GetParam(), at::kFloat, 1e-5); }
INSTANTIATE_TEST_SUITE_P(Switches, Stage2Equations, testing::ValuesIn(cases()), name_of);

// M = 1: pure noise t x_1, whatever the data is, with or without simulation.
TEST(StudentStep, one_outer_step_starts_from_noise) {
  Stage2Inputs in = test::stage2_inputs();
  in.draws.outer_index = at::ones({6}, at::kLong);
  for (OuterInput input : {OuterInput::kNoisedData, OuterInput::kSimulation}) {
    const Case which{"", [&](Stage2Options& o) {
                       o.grid_t = {0, 0.999};
                       o.input = input;
                     }};
    Product product(which, at::kDouble, false), again(which, at::kDouble, false);
    Paper paper(which, at::kDouble, false);
    const StudentStep actual = product.student_update(in);
    compare_samples(actual.sample,
                    test::paper_student_step(paper.weights, paper.generator, in, paper.options).batch, 1e-10);
    EXPECT_TRUE(actual.sample.x_t.equal(0.999 * in.draws.x_1));
    Stage2Inputs other = in;
    other.x = at::randn_like(in.x);
    EXPECT_TRUE(actual.loss.equal(again.student_update(other).loss)) << "it looked at the data";
  }
}

// Through all N inner steps and the backbone, by finite differences of the product itself.
TEST(StudentSample, gradients_of_x_hat_equal_finite_differences) {
  const Stage2Inputs in = test::stage2_inputs();
  at::manual_seed(9);
  const Tensor direction = at::randn_like(in.x);
  for (const Case& which : cases()) {
    SCOPED_TRACE(which.name);
    if (which.name.starts_with("simulation")) continue;  // its outer steps carry no gradient
    const auto value = [&](Product& product) {
      return (sample_student(product.generator, in.x, in.text, in.draws, product.options).x_hat * direction)
          .sum();
    };
    Product product(which, at::kDouble, false);
    value(product).backward();
    Tensor difference = at::zeros(test::kStudentWeights, at::kDouble);
    for (int k = 0; k < test::kStudentWeights; ++k) {
      const auto at = [&](double step) {
        const at::NoGradGuard no_grad;
        Product moved(which, at::kDouble, false);
        moved.weights.student[k] += step;
        return value(moved).item<double>();
      };
      difference[k] = (at(1e-5) - at(-1e-5)) / 2e-5;
    }
    test::expect_close(product.weights.student.grad(), difference, 1e-7, "gradient");
    EXPECT_GT(difference.slice(0, 0, test::kBackboneWeights).abs().min().item<double>(), 1e-4);
  }
}

// The generator's GAN term and the critic's losses have no held parts in the weights they train.
TEST(Stage2, gradients_of_losses_equal_finite_differences) {
  const Stage2Inputs in = test::stage2_inputs();
  const Case which{"", [](Stage2Options& o) { o.r1_weight = 3; }};
  const auto check = [](const Tensor& w, const std::function<Tensor()>& value, const char* name) {
    value().backward();
    const Tensor gradient = w.grad().clone().flatten(), flat = w.detach().view(-1);
    Tensor difference = at::zeros_like(flat);
    for (int64_t k = 0; k < flat.size(0); ++k) {
      const double start = flat[k].item<double>();
      flat[k].fill_(start + 1e-5);
      const double above = value().item<double>();
      flat[k].fill_(start - 1e-5);
      const double below = value().item<double>();
      flat[k].fill_(start);
      difference[k] = (above - below) / 2e-5;
    }
    test::expect_close(gradient, difference, 1e-7, name);
    EXPECT_GT(difference.abs().max().item<double>(), 1e-4) << name;
  };
  Product student(which, at::kDouble, false);
  check(
      student.weights.student, [&] { return student.student_update(in).gan.mean(); }, "GAN term");
  Product for_fake(which, at::kDouble, true), for_judge(which, at::kDouble, true);
  check(
      for_fake.weights.fake, [&] { return for_fake.critic_update(in).loss.mean(); }, "fake score");
  check(
      for_judge.weights.discriminator, [&] { return for_judge.critic_update(in).loss.mean(); },
      "discriminator");
}

}  // namespace tmd::method
