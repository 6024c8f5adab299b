#include "method/stage2.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "method/flow.h"

namespace tmd::method {
namespace {

at::Tensor mean_over_elements(const at::Tensor& x) { return x.to(at::kDouble).flatten(1).mean(1); }

at::Tensor mean_over_heads(const at::Tensor& x) { return x.to(at::kDouble).mean(1); }

// Weight of the VSD direction, [B] float64, without gradient.
at::Tensor vsd_weight(const StudentStep& step, VsdNorm norm) {
  const at::Tensor& reference = norm == VsdNorm::kXMinusTeacher ? step.sample.x_hat : step.g_fake;
  return 1 / (mean_over_elements((reference.detach() - step.g_teacher).abs()) + 1e-6);
}

// sg(x_hat - w (g_F - g_T)); the gradient of 0.5 (x_hat - it)^2 is w (g_F - g_T).
at::Tensor vsd_target(const StudentStep& step) {
  const at::Tensor direction = over_latent(step.vsd_weight) * (step.g_fake - step.g_teacher).to(at::kDouble);
  return step.sample.x_hat.detach().to(at::kDouble) - direction;
}

// x_t of every sample by the student's own outer steps from t_M x_1. All samples take all steps, so that
// every rank makes the same network calls; each keeps the state at its own t_i.
at::Tensor simulate(Generator& generator, const at::Tensor& text, const Stage2Draws& draws,
                    const Stage2Options& options) {
  const at::NoGradGuard no_grad;
  const std::vector<double>& grid = options.grid_t;
  const int steps = static_cast<int>(grid.size()) - 1;
  const auto batch_of = [&](double value) { return at::full({text.size(0)}, value, at::kDouble); };
  at::Tensor state = (grid[steps] * draws.x_1.to(at::kDouble)).to(draws.x_1.scalar_type()), kept = state;
  for (int i = steps; i > 1; --i) {
    const size_t k = steps - i;
    const at::Tensor y =
        generator.outer_velocity(state, batch_of(grid[i]), batch_of(grid[i - 1]), text, draws.y_1_before[k]);
    const bool renews = options.outer_step == OuterStep::kRenoise;
    state = outer_step(options.outer_step, state, y, grid[i], grid[i - 1],
                       renews ? draws.epsilon_before[k] : at::Tensor());
    kept = at::where(over_latent(draws.outer_index == i - 1, state), state, kept);
  }
  return kept;
}

at::Tensor outer_input(Generator& generator, const at::Tensor& x, const at::Tensor& text, const at::Tensor& t,
                       const Stage2Draws& draws, const Stage2Options& options) {
  if (options.input == OuterInput::kSimulation) return simulate(generator, text, draws, options);
  const bool one_step = options.grid_t.size() == 2;
  return one_step ? (over_latent(t, x) * draws.x_1.to(at::kDouble)).to(x.scalar_type())
                  : interpolate(x, draws.x_1, t);
}

at::Tensor without_rollout(Generator& generator, const at::Tensor& x, const at::Tensor& text,
                           const StudentSample& sample, const Stage2Draws& draws,
                           const Stage2Options& options) {
  const at::Tensor s = at::tensor(options.grid_s, at::kDouble).index_select(0, draws.inner_index);
  const at::Tensor y_s = interpolate(inner_target(options.form, x, draws.x_1), draws.y_1, s);
  return generator.without_rollout(sample.x_t, sample.t, text, y_s, s, draws.y_1);
}

// Feature maps of what is shown to the discriminator.
std::vector<at::Tensor> feature_maps(VelocityNetwork& teacher, VelocityNetwork& fake,
                                     const at::Tensor& latent, const at::Tensor& time, const at::Tensor& text,
                                     const Stage2Options& options) {
  VelocityNetwork& source = options.features == FeatureSource::kTeacher ? teacher : fake;
  return source.velocity_and_features(latent, time, text, /*features_only=*/true).features;
}

}  // namespace

StudentSample sample_student(Generator& generator, const at::Tensor& x, const at::Tensor& text,
                             const Stage2Draws& draws, const Stage2Options& options) {
  StudentSample sample;
  sample.t = at::tensor(options.grid_t, at::kDouble).index_select(0, draws.outer_index);
  sample.x_t = outer_input(generator, x, text, sample.t, draws, options);
  sample.y_hat = options.rollout ? generator.outer_velocity(sample.x_t, sample.t, at::zeros_like(sample.t),
                                                            text, draws.y_1)
                                 : without_rollout(generator, x, text, sample, draws, options);
  sample.x_hat = options.x_hat == XHat::kXtMinusTy ? clean_of(sample.x_t, sample.t, sample.y_hat)
                                                   : draws.x_1 - sample.y_hat;
  sample.td = shifted_time(draws.td_uniform, options.td_shift, options.td_low, options.td_high);
  sample.xh_t = interpolate(sample.x_hat, draws.epsilon, sample.td);
  return sample;
}

StudentStep student_step(Generator& generator, VelocityNetwork& teacher, VelocityNetwork& fake,
                         DiscriminatorNetwork* discriminator, const at::Tensor& x, const at::Tensor& text,
                         const at::Tensor& negative_text, const Stage2Draws& draws,
                         const Stage2Options& options) {
  StudentStep step;
  step.sample = sample_student(generator, x, text, draws, options);
  const StudentSample& sample = step.sample;
  std::vector<at::Tensor> maps;
  at::Tensor conditional;
  const bool reads_teacher = discriminator && options.features == FeatureSource::kTeacher;
  if (discriminator && !reads_teacher) {
    auto fake_pass = fake.velocity_and_features(sample.xh_t, sample.td, text, /*features_only=*/false);
    step.g_fake = clean_of(sample.xh_t, sample.td, fake_pass.velocity).detach();
    maps = std::move(fake_pass.features);
  }
  if (reads_teacher) {
    // One conditional teacher pass serves both terms; gradients flow through it to x_hat for the GAN.
    auto teacher_pass = teacher.velocity_and_features(sample.xh_t, sample.td, text, /*features_only=*/false);
    conditional = teacher_pass.velocity.detach();
    maps = std::move(teacher_pass.features);
  }
  {
    const at::NoGradGuard no_grad;
    if (!reads_teacher) conditional = teacher.velocity(sample.xh_t, sample.td, text);
    const at::Tensor negative =
        teacher.velocity(sample.xh_t, sample.td, negative_text.expand({x.size(0), -1, -1}).contiguous());
    step.g_teacher = guide(clean_of(sample.xh_t, sample.td, conditional),
                           clean_of(sample.xh_t, sample.td, negative), options.cfg)
                         .detach();
    if (!step.g_fake.defined())
      step.g_fake = clean_of(sample.xh_t, sample.td, fake.velocity(sample.xh_t, sample.td, text)).detach();
    step.vsd_weight = vsd_weight(step, options.vsd_norm);
  }
  step.vsd = 0.5 * mean_over_elements((sample.x_hat.to(at::kDouble) - vsd_target(step)).square());
  step.loss = step.vsd;
  if (discriminator) {
    const at::Tensor logits = discriminator->logits(maps, {});
    step.gan = mean_over_heads(at::softplus(-logits));
    step.loss = step.vsd + options.gan_weight * step.gan;
    step.logits_fake = logits.detach();
  }
  return step;
}

CriticStep critic_step(Generator& generator, VelocityNetwork& teacher, VelocityNetwork& fake,
                       DiscriminatorNetwork* discriminator, const at::Tensor& x, const at::Tensor& text,
                       const Stage2Draws& draws, const Stage2Options& options) {
  CriticStep step;
  std::vector<at::Tensor> fake_maps, real_maps, noisy_maps;
  {
    const at::NoGradGuard no_grad;
    step.sample = sample_student(generator, x, text, draws, options);
    if (discriminator) {
      const bool same = options.real_noise == RealNoise::kSame;
      const at::Tensor td =
          same ? step.sample.td
               : shifted_time(draws.td_real, options.td_shift, options.td_low, options.td_high);
      const at::Tensor real = interpolate(x, same ? draws.epsilon : draws.epsilon_real, td);
      fake_maps = feature_maps(teacher, fake, step.sample.xh_t, step.sample.td, text, options);
      real_maps = feature_maps(teacher, fake, real, td, text, options);
      if (options.r1_weight > 0) {
        const at::Tensor noisy = real + options.r1_sigma * draws.r1_noise;
        noisy_maps = feature_maps(teacher, fake, noisy, td, text, options);
      }
    }
  }
  const StudentSample& sample = step.sample;
  const at::Tensor g_fake = clean_of(sample.xh_t, sample.td, fake.velocity(sample.xh_t, sample.td, text));
  step.g_fake = g_fake.detach();
  step.fake = mean_over_elements((sample.x_hat - g_fake).square());
  step.loss = step.fake;
  if (!discriminator) return step;

  const at::Tensor logits_fake = discriminator->logits(fake_maps, draws.keep_fake);
  const at::Tensor logits_real = discriminator->logits(real_maps, draws.keep_real);
  step.discriminator =
      mean_over_heads(at::softplus(logits_fake)) + mean_over_heads(at::softplus(-logits_real));
  step.loss = step.loss + step.discriminator;
  if (options.r1_weight > 0) {
    const at::Tensor logits_noisy = discriminator->logits(noisy_maps, draws.keep_real);
    step.r1 = mean_over_heads((logits_real - logits_noisy).square());
    step.loss = step.loss + options.r1_weight * step.r1;
  }
  step.logits_fake = logits_fake.detach();
  step.logits_real = logits_real.detach();
  return step;
}

}  // namespace tmd::method
