// Every switch of stage 1 and stage 2 changes what it should and nothing else. A case lists the results that
// must differ from those of the defaults; every other one must be the same to the bit. That a changed result
// has the right value is for stage1_equations_test and stage2_equations_test.

#include <functional>
#include <map>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "method/stage1.h"
#include "method/stage2.h"
#include "paper_stage1.h"
#include "paper_stage2.h"

namespace tmd::method {
namespace {

using at::Tensor;
using Results = std::map<std::string, Tensor>;
using Names = std::set<std::string>;

bool same(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  return a.equal(b);
}

void expect_changes(const Results& before, const Results& after, const Names& changes) {
  for (const std::string& name : changes) EXPECT_TRUE(before.contains(name)) << "no result " << name;
  for (const auto& [name, value] : before) {
    if (changes.contains(name))
      EXPECT_FALSE(same(value, after.at(name))) << name << " did not change";
    else
      EXPECT_TRUE(same(value, after.at(name))) << name << " changed";
  }
}

Names operator+(Names a, const Names& b) {
  a.insert(b.begin(), b.end());
  return a;
}

// ---- stage 1

struct Stage1Setting {
  Stage1Options options;
  test::Stage1Inputs in = test::stage1_inputs();
};

Results stage1_results(const Stage1Setting& setting) {
  at::manual_seed(17);
  test::PaperStudent student(test::leaf(test::some_weights({test::kStudentWeights}), at::kDouble));
  const auto& [options, in] = setting;
  const Stage1Result result =
      stage1(student, in.x, in.text, in.negative, in.draws, options, [](bool flag) { return flag; });
  result.loss.mean().backward();
  const Tensor gradient = student.w.grad();
  return {{"t", result.t},
          {"s", result.s},
          {"r", result.r},
          {"x_t", result.x_t},
          {"m", result.m.tokens},
          {"y_1", result.y_1},
          {"y_s", result.y_s},
          {"y_guided", result.y_guided},
          {"tangent", result.tangent},
          {"derivative", result.derivative},
          {"head", result.head},
          {"target", result.target},
          {"S", result.S},
          {"loss", result.loss},
          {"backbone gradient", gradient.slice(0, 0, test::kBackboneWeights)},
          {"head gradient", gradient.slice(0, test::kBackboneWeights)}};
}

struct Stage1Case {
  std::string name;
  std::function<void(Stage1Setting&)> set;
  Names changes;
  int only_row = -1;  // samples but this one stay
  friend void PrintTo(const Stage1Case& which, std::ostream* out) { *out << which.name; }
};

const Names gradients = {"backbone gradient", "head gradient"};
const Names of_target = Names{"target", "S", "loss"} + gradients;
const Names of_derivative = of_target + Names{"derivative"};
const Names of_tangent = of_derivative + Names{"tangent"};
const Names of_guidance = of_tangent + Names{"y_guided"};
const Names of_head = of_guidance + Names{"head"};
const Names of_interval = of_derivative + Names{"head", "r"};
const Names of_y_s = of_head + Names{"y_s"};
const Names of_main = of_head + Names{"m"};

const std::vector<Stage1Case>& stage1_cases() {
  using S = Stage1Setting;
  static const std::vector<Stage1Case> list = {
      {"objective", [](S& s) { s.options.objective = Stage1Objective::kTm; }, of_interval},
      {"target", [](S& s) { s.options.form.target = InnerTarget::kClean; }, of_y_s},
      {"output", [](S& s) { s.options.form.output = HeadOutput::kAverageVelocity; }, of_head},
      {"grid_t",
       [](S& s) {
         s.options.grid_t = {0, 0.833, 0.95};
       },
       of_main + Names{"t", "x_t"}},
      {"grid_s",
       [](S& s) {
         s.options.grid_s = {0, 0.5, 0.999};
       },
       of_interval},
      {"interval", [](S& s) { s.options.interval = Interval::kContinuous; }, of_y_s + Names{"s", "r"}},
      {"s_shift", [](S& s) { s.options.s_shift = 2.5; }, of_y_s + Names{"s", "r"}},
      {"s_low", [](S& s) { s.options.s_low = 0.02; }, of_y_s + Names{"s"}, 7},
      {"s_high", [](S& s) { s.options.s_high = 0.9986; }, of_y_s + Names{"s", "r"}, 4},
      {"derivative_low", [](S& s) { s.options.derivative_low = 0.57; }, of_derivative},
      {"delta", [](S& s) { s.options.delta = 4e-3; }, of_derivative},
      {"derivative", [](S& s) { s.options.derivative = Derivative::kExact; }, of_derivative},
      {"cfg", [](S& s) { s.options.cfg = 2; }, of_guidance},
      {"cfg_off", [](S& s) { s.options.cfg = 1; }, of_guidance},
      {"cfg_mix", [](S& s) { s.options.cfg_mix = 0.3; }, of_guidance},
      {"loss_c", [](S& s) { s.options.loss_c = 1e-3; }, gradients + Names{"loss"}},
      {"tangent_plain", [](S& s) { s.options.tangent = Tangent::kPlain; }, of_tangent},
      {"tangent_predicted", [](S& s) { s.options.tangent = Tangent::kPredicted; }, of_tangent},
      {"detach_features", [](S& s) { s.options.detach_features = true; }, {"backbone gradient"}},
      {"flow_matching", [](S& s) { s.in.draws.flow_matching[2] = true; }, of_interval, 2},
      {"drop_condition", [](S& s) { s.in.draws.drop_condition[2] = true; }, of_main, 2},
      {"outer_index", [](S& s) { s.in.draws.outer_index[2] = 1; }, of_main + Names{"t", "x_t"}, 2},
      {"r_uniform_of_a_grid", [](S& s) { s.in.draws.r_uniform = Tensor(); }, {}},
  };
  return list;
}

class Stage1Switch : public testing::TestWithParam<Stage1Case> {};

}  // namespace

TEST_P(Stage1Switch, changes_what_it_should_and_nothing_else) {
  Stage1Setting base;
  base.options.loss_c = 16;
  Stage1Setting with = base;
  with.in = test::stage1_inputs();  // its own tensors
  GetParam().set(with);

  const Results before = stage1_results(base), after = stage1_results(with);

  expect_changes(before, after, GetParam().changes);
  for (const auto& [name, value] : before) {
    if (GetParam().only_row < 0 || name.ends_with("gradient")) continue;
    for (int64_t b = 0; b < value.size(0); ++b)
      EXPECT_TRUE(b == GetParam().only_row || value[b].equal(after.at(name)[b]))
          << name << " of sample " << b;
  }
}
INSTANTIATE_TEST_SUITE_P(Stage1, Stage1Switch, testing::ValuesIn(stage1_cases()),
                         [](const auto& which) { return which.param.name; });

TEST(Stage1, detached_features_leave_the_backbone_without_gradient) {
  Stage1Setting setting;
  setting.options.detach_features = true;
  EXPECT_EQ(stage1_results(setting).at("backbone gradient").abs().max().item<double>(), 0);
}

// ---- stage 2

namespace {

struct Stage2Setting {
  Stage2Options options = test::stage2_options();
  test::Stage2Inputs in = test::stage2_inputs();
  std::vector<double> generator_grid = {0, 0.908, 0.999};
  InnerForm generator_form;
  InnerVelocity velocity = InnerVelocity::kAverage;
};

Results stage2_results(const Stage2Setting& setting) {
  const auto& [options, in, grid, form, velocity] = setting;
  const test::Stage2Weights values = test::stage2_weights();
  test::PaperStudent student(test::leaf(values.student, at::kDouble));
  TmdGenerator generator(student, grid, form, velocity);
  test::PaperVelocity teacher(test::leaf(values.teacher, at::kDouble, false)),
      frozen_fake(test::leaf(values.fake, at::kDouble, false)), fake(test::leaf(values.fake, at::kDouble));
  test::PaperDiscriminator frozen_judge(test::leaf(values.discriminator, at::kDouble, false)),
      judge(test::leaf(values.discriminator, at::kDouble));
  const bool gan = options.gan_weight > 0;
  const StudentStep step = student_step(generator, teacher, frozen_fake, gan ? &frozen_judge : nullptr, in.x,
                                        in.text, in.negative, in.draws, options);
  step.loss.mean().backward();
  const CriticStep critic =
      critic_step(generator, teacher, fake, gan ? &judge : nullptr, in.x, in.text, in.draws, options);
  critic.loss.mean().backward();
  EXPECT_TRUE(step.sample.x_hat.equal(critic.sample.x_hat));
  return {{"t", step.sample.t},
          {"td", step.sample.td},
          {"x_t", step.sample.x_t},
          {"y_hat", step.sample.y_hat},
          {"x_hat", step.sample.x_hat},
          {"xh_t", step.sample.xh_t},
          {"g_fake", step.g_fake},
          {"g_teacher", step.g_teacher},
          {"vsd_weight", step.vsd_weight},
          {"vsd", step.vsd},
          {"gan", step.gan},
          {"logits", step.logits_fake},
          {"loss", step.loss},
          {"student gradient", student.w.grad()},
          {"critic g_fake", critic.g_fake},
          {"critic fake", critic.fake},
          {"critic discriminator", critic.discriminator},
          {"critic r1", critic.r1},
          {"critic loss", critic.loss},
          {"critic logits_fake", critic.logits_fake},
          {"critic logits_real", critic.logits_real},
          {"fake gradient", fake.w.grad()},
          {"discriminator gradient", judge.d.grad()}};
}

struct Stage2Case {
  std::string name;
  std::function<void(Stage2Setting&)> set;
  Names changes;
  std::function<void(Stage2Setting&)> base = [](Stage2Setting&) {};
  friend void PrintTo(const Stage2Case& which, std::ostream* out) { *out << which.name; }
};

const Names of_judge = {"critic discriminator", "critic loss", "discriminator gradient"};
const Names of_real = of_judge + Names{"critic logits_real", "critic r1"};
const Names of_fake_logits = of_judge + Names{"critic logits_fake"};
const Names of_student_loss = {"loss", "student gradient"};
const Names of_vsd = of_student_loss + Names{"vsd_weight", "vsd"};
const Names of_noised =
    of_vsd + of_fake_logits +
    Names{"xh_t", "g_fake", "g_teacher", "gan", "logits", "critic g_fake", "critic fake", "fake gradient"};
const Names of_x_hat = of_noised + Names{"x_hat"};
const Names of_y_hat = of_x_hat + Names{"y_hat"};
const Names of_x_t = of_y_hat + Names{"x_t"};

void no_rollout(Stage2Setting& s) { s.options.rollout = false; }
void simulation(Stage2Setting& s) { s.options.input = OuterInput::kSimulation; }

std::vector<Stage2Case> stage2_sample_cases() {
  using S = Stage2Setting;
  return {
      {"grid_t",
       [](S& s) {
         s.options.grid_t = {0, 0.5, 0.8, 0.95};
       },
       of_x_t + Names{"t"}},
      {"x_hat", [](S& s) { s.options.x_hat = XHat::kX1MinusY; }, of_x_hat},
      {"rollout", no_rollout, of_y_hat},
      {"grid_s_of_a_rollout",
       [](S& s) {
         s.options.grid_s = {0, 0.5, 0.999};
       },
       {}},
      {"grid_s",
       [](S& s) {
         s.options.grid_s = {0, 0.5, 0.999};
       },
       of_y_hat, no_rollout},
      {"form_of_a_rollout", [](S& s) { s.options.form.target = InnerTarget::kClean; }, {}},
      {"form", [](S& s) { s.options.form.target = InnerTarget::kClean; }, of_y_hat, no_rollout},
      {"generator_grid",
       [](S& s) {
         s.generator_grid = {0, 0.5, 0.999};
       },
       of_y_hat},
      {"generator_target", [](S& s) { s.generator_form.target = InnerTarget::kClean; }, of_y_hat},
      {"generator_output", [](S& s) { s.generator_form.output = HeadOutput::kAverageVelocity; }, of_y_hat},
      {"generator_velocity", [](S& s) { s.velocity = InnerVelocity::kInstantaneous; }, of_y_hat},
      {"input", simulation, of_x_t},
      {"outer_step_of_noised_data", [](S& s) { s.options.outer_step = OuterStep::kRenoise; }, {}},
      {"outer_step", [](S& s) { s.options.outer_step = OuterStep::kRenoise; }, of_x_t, simulation},
      {"y_1_before_of_noised_data", [](S& s) { s.in.draws.y_1_before.clear(); }, {}},
      {"y_1_before", [](S& s) { s.in.draws.y_1_before[1].mul_(2); }, of_x_t, simulation},
      {"epsilon_before_of_deterministic_steps",
       [](S& s) { s.in.draws.epsilon_before.clear(); },
       {},
       simulation},
      {"epsilon_before", [](S& s) { s.in.draws.epsilon_before[1].mul_(2); }, of_x_t,
       [](S& s) {
         simulation(s);
         s.options.outer_step = OuterStep::kRenoise;
       }},
      {"inner_index_of_a_rollout", [](S& s) { s.in.draws.inner_index = Tensor(); }, {}},
      {"inner_index", [](S& s) { s.in.draws.inner_index.fill_(2); }, of_y_hat, no_rollout},
  };
}

std::vector<Stage2Case> stage2_loss_cases() {
  using S = Stage2Setting;
  const Names of_td = of_noised + of_real + Names{"td"};
  return {
      {"cfg", [](S& s) { s.options.cfg = 3; }, of_vsd + Names{"g_teacher"}},
      {"td_shift", [](S& s) { s.options.td_shift = 3; }, of_td},
      {"td_low", [](S& s) { s.options.td_low = 0.2; }, of_td},
      {"td_high", [](S& s) { s.options.td_high = 0.9; }, of_td},
      {"vsd_norm", [](S& s) { s.options.vsd_norm = VsdNorm::kFakeMinusTeacher; }, of_vsd},
      {"features", [](S& s) { s.options.features = FeatureSource::kFake; },
       of_student_loss + of_real + of_fake_logits + Names{"gan", "logits"}},
      {"real_noise", [](S& s) { s.options.real_noise = RealNoise::kIndependent; }, of_real},
      {"gan_weight", [](S& s) { s.options.gan_weight = 0.03; }, of_student_loss},
      {"gan_off", [](S& s) { s.options.gan_weight = 0; },
       of_student_loss + of_real + of_fake_logits + Names{"gan", "logits"}},
      {"r1_weight", [](S& s) { s.options.r1_weight = 5; }, {"critic loss", "discriminator gradient"}},
      {"r1_off",
       [](S& s) { s.options.r1_weight = 0; },
       {"critic r1", "critic loss", "discriminator gradient"}},
      {"r1_sigma",
       [](S& s) { s.options.r1_sigma = 0.2; },
       {"critic r1", "critic loss", "discriminator gradient"}},
      {"r1_noise",
       [](S& s) { s.in.draws.r1_noise.mul_(2); },
       {"critic r1", "critic loss", "discriminator gradient"}},
      {"keep_fake", [](S& s) { s.in.draws.keep_fake[1].fill_(1); }, of_fake_logits},
      {"keep_real", [](S& s) { s.in.draws.keep_real[1].fill_(1); }, of_real},
      {"own_noise_of_reals_with_the_same",
       [](S& s) { s.in.draws.td_real = s.in.draws.epsilon_real = Tensor(); },
       {}},
      {"td_real", [](S& s) { s.in.draws.td_real.mul_(0.5); }, of_real,
       [](S& s) { s.options.real_noise = RealNoise::kIndependent; }},
      {"epsilon_real", [](S& s) { s.in.draws.epsilon_real.mul_(0.5); }, of_real,
       [](S& s) { s.options.real_noise = RealNoise::kIndependent; }},
  };
}

class Stage2Switch : public testing::TestWithParam<Stage2Case> {};

void compare_switch(const Stage2Case& which) {
  Stage2Setting base, with;
  for (Stage2Setting* setting : {&base, &with}) {
    setting->options.r1_weight = 3;
    which.base(*setting);
  }
  which.set(with);
  // Without rollout the options stand for the generator's form; tests of the generator's own leave them.
  if (!with.options.rollout) with.generator_form = with.options.form;
  expect_changes(stage2_results(base), stage2_results(with), which.changes);
}

}  // namespace

TEST_P(Stage2Switch, changes_what_it_should_and_nothing_else) { compare_switch(GetParam()); }
INSTANTIATE_TEST_SUITE_P(Samples, Stage2Switch, testing::ValuesIn(stage2_sample_cases()),
                         [](const auto& which) { return which.param.name; });
INSTANTIATE_TEST_SUITE_P(Losses, Stage2Switch, testing::ValuesIn(stage2_loss_cases()),
                         [](const auto& which) { return which.param.name; });

// Samples that start at the last outer time take no step before: how steps are taken is nothing to them.
TEST(Simulation, kind_of_step_leaves_the_first_outer_time_alone) {
  Stage2Setting base, with;
  simulation(base);
  simulation(with);
  with.options.outer_step = OuterStep::kRenoise;
  const Results before = stage2_results(base), after = stage2_results(with);
  for (int64_t b = 0; b < 6; ++b) {
    const bool last = base.in.draws.outer_index[b].item<int64_t>() == 3;
    EXPECT_EQ(before.at("x_t")[b].equal(after.at("x_t")[b]), last) << b;
    EXPECT_EQ(before.at("x_hat")[b].equal(after.at("x_hat")[b]), last) << b;
  }
}

TEST(Discriminator, loss_of_fake_features_does_not_reach_the_fake_score) {
  Stage2Setting base, with;
  base.options.features = with.options.features = FeatureSource::kFake;
  with.options.gan_weight = 0;
  const Results before = stage2_results(base), after = stage2_results(with);
  EXPECT_TRUE(before.at("fake gradient").equal(after.at("fake gradient")));
  EXPECT_FALSE(before.at("critic loss").equal(after.at("critic loss")));
}

}  // namespace tmd::method
