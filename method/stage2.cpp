#include "method/stage2.h"

#include <ATen/ATen.h>

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

}  // namespace

StudentSample sample_student(Generator& generator, const at::Tensor& x, const at::Tensor& text,
                             const Stage2Draws& draws, const Stage2Options& options) {
  StudentSample sample;
  sample.t = at::tensor(options.grid_t, at::kDouble).index_select(0, draws.outer_index);
  const bool one_step = options.grid_t.size() == 2;
  sample.x_t = one_step ? (over_latent(sample.t, x) * draws.x_1.to(at::kDouble)).to(x.scalar_type())
                        : interpolate(x, draws.x_1, sample.t);
  sample.y_hat = generator.outer_velocity(sample.x_t, sample.t, text, draws.y_1);
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
  if (discriminator) {
    // One conditional teacher pass serves both terms; gradients flow through it to x_hat for the GAN.
    auto teacher_pass = teacher.velocity_and_features(sample.xh_t, sample.td, text, /*features_only=*/false);
    conditional = teacher_pass.velocity.detach();
    maps = std::move(teacher_pass.features);
  }
  {
    const at::NoGradGuard no_grad;
    if (!discriminator) conditional = teacher.velocity(sample.xh_t, sample.td, text);
    const at::Tensor negative =
        teacher.velocity(sample.xh_t, sample.td, negative_text.expand({x.size(0), -1, -1}).contiguous());
    step.g_teacher = guide(clean_of(sample.xh_t, sample.td, conditional),
                           clean_of(sample.xh_t, sample.td, negative), options.cfg)
                         .detach();
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
      const auto maps = [&](const at::Tensor& latent) {
        return teacher.velocity_and_features(latent, step.sample.td, text, /*features_only=*/true).features;
      };
      const at::Tensor real =
          interpolate(x, draws.epsilon, step.sample.td);  // same t_d and epsilon as the fake
      fake_maps = maps(step.sample.xh_t);
      real_maps = maps(real);
      if (options.r1_weight > 0) noisy_maps = maps(real + options.r1_sigma * draws.r1_noise);
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
