#include "method/stage2.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "method/flow.h"
#include "simple_networks.h"

namespace tmd::method {
namespace {

// Logit h of map h: the mean over its elements times (h + 1).
class MeanDiscriminator : public DiscriminatorNetwork {
 public:
  at::Tensor logits(const std::vector<at::Tensor>& maps, const std::vector<at::Tensor>& keep) override {
    masks_seen = keep.size();
    std::vector<at::Tensor> list;
    for (size_t h = 0; h < maps.size(); ++h)
      list.push_back(maps[h].flatten(1).mean(1) * static_cast<double>(h + 1));
    return at::stack(list, 1);
  }
  size_t masks_seen = 0;
};

struct Inputs {
  at::Tensor x = at::randn({3, 2, 1, 2, 2}, at::kDouble), text = at::ones({3, 1, 1}, at::kDouble),
             negative = at::zeros({1, 1, 1}, at::kDouble);
  Stage2Draws draws{.x_1 = at::randn_like(x),
                    .y_1 = at::randn_like(x),
                    .epsilon = at::randn_like(x),
                    .outer_index = at::tensor({1, 2, 1}, at::kLong),
                    .td_uniform = at::tensor({0.2, 0.5, 0.9}, at::kDouble),
                    .keep_fake = {at::ones({3, 4}), at::ones({3, 4})},
                    .keep_real = {at::ones({3, 4}), at::ones({3, 4})},
                    .r1_noise = at::randn_like(x)};
  Stage2Options options;
  // x_hat = x_t - t w x_t: a generator with one weight
  at::Tensor w = at::full({}, 0.3, at::kDouble).requires_grad_(true);
  test::FormulaVelocity generator_network{
      [this](const auto& in, const auto&, const auto&) { return w * in; }};
  VelocityGenerator generator{generator_network};
  test::FormulaVelocity teacher{[](const auto& in, const auto& t, const auto& c) {
    return in * t + 0.1 * c.view({-1, 1, 1, 1, 1});
  }};
  test::FormulaVelocity fake{[](const auto& in, const auto&, const auto&) { return 0.4 * in; }};
  MeanDiscriminator discriminator;
};

}  // namespace

// The gradient of the coded loss with respect to x_hat is (g_F - g_T) w / (B d).
TEST(StudentStep, vsd_gradient_is_the_normalised_difference_of_the_scores) {
  Inputs inputs;
  StudentStep step = student_step(inputs.generator, inputs.teacher, inputs.fake, nullptr, inputs.x,
                                  inputs.text, inputs.negative, inputs.draws, inputs.options);
  step.sample.x_hat.retain_grad();

  step.vsd.mean().backward();

  const double elements = static_cast<double>(inputs.x.numel());
  const at::Tensor expected = (step.g_fake - step.g_teacher) * over_latent(step.vsd_weight) / elements;
  EXPECT_LT((step.sample.x_hat.grad() - expected).abs().max().item<double>(), 1e-12);
  const at::Tensor norm = (step.sample.x_hat - step.g_teacher).abs().flatten(1).sum(1);
  const at::Tensor l1 = (step.g_fake - step.g_teacher) / (3 * over_latent(norm));
  EXPECT_LT((step.sample.x_hat.grad() - l1).abs().max().item<double>(), 1e-5)
      << "up to the 1e-6 of the denominator";
}

TEST(StudentStep, teacher_score_is_guided_clean_prediction) {
  Inputs inputs;
  inputs.options.cfg = 5;

  const StudentStep step = student_step(inputs.generator, inputs.teacher, inputs.fake, nullptr, inputs.x,
                                        inputs.text, inputs.negative, inputs.draws, inputs.options);

  const at::Tensor t = over_latent(step.sample.td), in = step.sample.xh_t;
  const at::Tensor conditional = in - t * (in * t + 0.1), negative = in - t * (in * t);
  EXPECT_LT((step.g_teacher - (negative + 5 * (conditional - negative))).abs().max().item<double>(), 1e-12);
}

TEST(StudentStep, printed_denominator_makes_the_direction_one_in_l1) {
  Inputs inputs;
  inputs.options.vsd_norm = VsdNorm::kFakeMinusTeacher;

  const StudentStep step = student_step(inputs.generator, inputs.teacher, inputs.fake, nullptr, inputs.x,
                                        inputs.text, inputs.negative, inputs.draws, inputs.options);

  const at::Tensor direction = over_latent(step.vsd_weight) * (step.g_fake - step.g_teacher);
  EXPECT_LT((direction.abs().flatten(1).mean(1) - 1).abs().max().item<double>(), 1e-4);
}

TEST(StudentStep, gan_term_is_the_mean_over_heads_and_flows_through_the_teacher) {
  Inputs inputs;
  inputs.options.gan_weight = 0.5;

  const StudentStep step = student_step(inputs.generator, inputs.teacher, inputs.fake, &inputs.discriminator,
                                        inputs.x, inputs.text, inputs.negative, inputs.draws, inputs.options);

  EXPECT_LT((step.gan - at::softplus(-step.logits_fake).mean(1)).abs().max().item<double>(), 1e-12);
  EXPECT_LT((step.loss - step.vsd - 0.5 * step.gan).abs().max().item<double>(), 1e-12);
  step.gan.sum().backward();
  EXPECT_NE(inputs.w.grad().item<double>(), 0);
  EXPECT_EQ(inputs.discriminator.masks_seen, 0u) << "no dropout in the student step";
}

TEST(StudentSample, one_outer_step_starts_from_pure_noise) {
  Inputs inputs;
  inputs.options.grid_t = {0, 0.999};
  inputs.draws.outer_index = at::ones({3}, at::kLong);

  const StudentSample one =
      sample_student(inputs.generator, inputs.x, inputs.text, inputs.draws, inputs.options);

  EXPECT_LT((one.x_t - 0.999 * inputs.draws.x_1).abs().max().item<double>(), 1e-12);
}

TEST(StudentSample, both_forms_of_x_hat_differ_as_written) {
  Inputs inputs;
  const StudentSample standard =
      sample_student(inputs.generator, inputs.x, inputs.text, inputs.draws, inputs.options);
  inputs.options.x_hat = XHat::kX1MinusY;

  const StudentSample printed =
      sample_student(inputs.generator, inputs.x, inputs.text, inputs.draws, inputs.options);

  EXPECT_LT(
      (standard.x_hat - (standard.x_t - over_latent(standard.t) * standard.y_hat)).abs().max().item<double>(),
      1e-12);
  EXPECT_LT((printed.x_hat - (inputs.draws.x_1 - printed.y_hat)).abs().max().item<double>(), 1e-12);
}

TEST(CriticStep, fake_score_regresses_the_detached_sample_and_r1_uses_the_noised_real_latent) {
  Inputs inputs;
  inputs.options.r1_weight = 2;
  inputs.options.r1_sigma = 0.1;

  const CriticStep step = critic_step(inputs.generator, inputs.teacher, inputs.fake, &inputs.discriminator,
                                      inputs.x, inputs.text, inputs.draws, inputs.options);

  EXPECT_FALSE(step.sample.x_hat.requires_grad());
  EXPECT_LT(
      (step.fake - (step.sample.x_hat - step.g_fake).square().flatten(1).mean(1)).abs().max().item<double>(),
      1e-12);
  const at::Tensor real = interpolate(inputs.x, inputs.draws.epsilon, step.sample.td);
  const at::Tensor clean = real.flatten(1).mean(1),
                   noisy = (real + 0.1 * inputs.draws.r1_noise).flatten(1).mean(1);
  // logits are the mean of the map, and twice the mean of twice the map
  const at::Tensor expected = ((clean - noisy).square() + (4 * (clean - noisy)).square()) / 2;
  EXPECT_LT((step.r1 - expected).abs().max().item<double>(), 1e-12);
  EXPECT_LT((step.loss - step.fake - step.discriminator - 2 * step.r1).abs().max().item<double>(), 1e-12);
  EXPECT_EQ(inputs.discriminator.masks_seen, 2u);
}

}  // namespace tmd::method
