#include "method/samplers.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "simple_networks.h"

namespace tmd::method {
namespace {

// Scalar x = 1, v = tanh(0.7 x) + 0.3 t: 4 steps with shift 5 and integer model times.
class ScalarReference : public testing::Test {
 protected:
  test::FormulaVelocity network_{
      [](const auto& x, const auto& t, const auto&) { return at::tanh(0.7 * x) + 0.3 * t; }};
  at::Tensor x_ = at::ones({1, 1, 1, 1, 1}, at::kDouble);
  std::vector<double> sigmas_ = teacher_sigmas(4, 5, SigmaGrid::kWan);
  std::vector<double> states_;
  StepObserver observe_ = [this](int, const at::Tensor& x) { states_.push_back(x.item<double>()); };
};

void expect_all_near(const std::vector<double>& actual, const std::vector<double>& expected,
                     double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(actual[i], expected[i], tolerance) << "step " << i;
}

}  // namespace

TEST_F(ScalarReference, sigmas_are_the_published_ones) {
  expect_all_near(sigmas_, {0.9998, 0.937265, 0.833055, 0.624687, 0}, 5e-7);
}

TEST_F(ScalarReference, euler_gives_the_published_states) {
  sample_euler(network_, x_, {}, {}, sigmas_, {.cfg = 1}, observe_);
  expect_all_near(states_, {0.943465, 0.85387, 0.690235, 0.29295}, 5e-7);
}

TEST_F(ScalarReference, unipc_gives_the_published_states) {
  sample_unipc(network_, x_, {}, {}, sigmas_, {.cfg = 1}, observe_);
  // the published numbers were printed with six digits by an implementation in float32
  expect_all_near(states_, {0.943465, 0.855461, 0.702188, 0.300745}, 2e-6);
}

TEST_F(ScalarReference, guidance_of_two_equal_predictions_changes_nothing) {
  const at::Tensor text = at::zeros({1, 1, 1}, at::kDouble);
  const at::Tensor plain = sample_euler(network_, x_, text, text, sigmas_, {.cfg = 1});
  const at::Tensor guided = sample_euler(network_, x_, text, text, sigmas_, {.cfg = 6});
  EXPECT_NEAR(plain.item<double>(), guided.item<double>(), 1e-12);
}

// Velocity c(text) + 100 (block + 1) where a block is left out.
class BlockVelocity : public test::FormulaVelocity {
 public:
  BlockVelocity()
      : FormulaVelocity([](const auto& x, const auto&, const auto& text) {
          return at::zeros_like(x) + text.view({-1, 1, 1, 1, 1});
        }) {}
  at::Tensor velocity_without(int64_t block, const at::Tensor& x, const at::Tensor& t,
                              const at::Tensor& text) override {
    return velocity(x, t, text) + 100.0 * static_cast<double>(block + 1);
  }
};

TEST(Samplers, the_negative_pass_alone_leaves_a_block_out) {
  BlockVelocity network;
  const at::Tensor x = at::zeros({1, 1, 1, 1, 1}, at::kDouble);
  const at::Tensor text = at::full({1, 1, 1}, 3.0, at::kDouble), negative = at::ones({1, 1, 1}, at::kDouble);
  const std::vector<double> sigmas = {0.5, 0};
  const auto velocity = [&](const GuidanceOptions& options) {
    return -2 * sample_euler(network, x, text, negative, sigmas, options).item<double>();
  };
  EXPECT_NEAR(velocity({.cfg = 5}), 1 + 5 * (3 - 1), 1e-12);
  EXPECT_NEAR(velocity({.cfg = 5, .skip_block = 0}), 101 + 5 * (3 - 101), 1e-12);
  EXPECT_NEAR(velocity({.cfg = 5, .skip_block = 10}), 1101 + 5 * (3 - 1101), 1e-12);
  EXPECT_NEAR(velocity({.cfg = 1, .skip_block = 10}), 3, 1e-12) << "no negative pass";
  EXPECT_NEAR(
      -2 * sample_unipc(network, x, text, negative, sigmas, {.cfg = 5, .skip_block = 10}).item<double>(),
      1101 + 5 * (3 - 1101), 1e-9);
}

TEST_F(ScalarReference, a_network_without_blocks_has_none_to_leave_out) {
  const at::Tensor text = at::zeros({1, 1, 1}, at::kDouble);
  try {
    sample_euler(network_, x_, text, text, sigmas_, {.cfg = 5, .skip_block = 0});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    EXPECT_NE(std::string(error.what()).find("this network has none"), std::string::npos) << error.what();
  }
}

// A teacher that is right about a single point ends there whatever the solver.
TEST(Samplers, exact_velocity_of_one_point_ends_at_the_point) {
  test::FormulaVelocity network([](const auto& x, const auto& t, const auto&) { return (x - 3.0) / t; });
  const at::Tensor x = at::randn({2, 1, 1, 1, 2}, at::kDouble);
  const auto sigmas = teacher_sigmas(5, 5, SigmaGrid::kWan);
  const GuidanceOptions exact{.cfg = 1, .model_time = ModelTime::kExact};
  EXPECT_LT((sample_euler(network, x, {}, {}, sigmas, exact) - 3).abs().max().item<double>(), 1e-9);
  EXPECT_LT((sample_unipc(network, x, {}, {}, sigmas, exact) - 3).abs().max().item<double>(), 1e-9);
}

// Eq. 18: x' = (t'/t) x + (1 - t'/t) g(x), the deterministic DMD2-v step.
TEST(Samplers, velocity_generator_steps_as_dmd2v) {
  test::FormulaVelocity network([](const auto& x, const auto& t, const auto&) { return 0.5 * x + t; });
  VelocityGenerator generator(network);
  const at::Tensor x = at::randn({1, 1, 1, 1, 3}, at::kDouble);
  std::vector<at::Tensor> states;

  sample_student_steps(
      generator, x, {}, {0, 0.908, 0.999}, OuterStep::kDeterministic, [](int) { return at::Tensor(); }, {},
      [&](int, const at::Tensor& state) { states.push_back(state); });

  const at::Tensor g = x - 0.999 * (0.5 * x + 0.999);
  const at::Tensor expected = (0.908 / 0.999) * x + (1 - 0.908 / 0.999) * g;
  EXPECT_LT((states[0] - expected).abs().max().item<double>(), 1e-12);
  const at::Tensor last = states[0] - 0.908 * (0.5 * states[0] + 0.908);
  EXPECT_LT((states[1] - last).abs().max().item<double>(), 1e-12);
}

}  // namespace tmd::method
