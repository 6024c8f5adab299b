#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "method/generator.h"
#include "method/networks.h"

namespace tmd::method {

/// Denominator of the VSD gradient. The paper prints |g_F - g_T|_1; FastGen and DMD2 use |x_hat - g_T|_1.
enum class VsdNorm { kXMinusTeacher, kFakeMinusTeacher };

struct Stage2Options {
  std::vector<double> grid_t = {0, 0.908, 0.999};  ///< outer grid
  XHat x_hat = XHat::kXtMinusTy;
  double cfg = 5;                              ///< teacher guidance
  double td_shift = 5;                         ///< shift of the diffusion time t_d
  double td_low = 0.001, td_high = 0.999;
  VsdNorm vsd_norm = VsdNorm::kXMinusTeacher;
  double gan_weight = 0.03;                    ///< lambda of the generator's GAN term; 0 = no discriminator
  double r1_weight = 0;                        ///< of the approximate R1 term; 0 = not computed
  double r1_sigma = 0.1;
};

/// Random numbers of a step, one row per sample.
struct Stage2Draws {
  at::Tensor x_1, y_1, epsilon;       // Z, N(0, 1)
  at::Tensor outer_index;             // [B] int64, i in 1 .. M
  at::Tensor td_uniform;              // [B] float64, uniform in [td_low, td_high], before shift and clamp
  std::vector<at::Tensor> keep_fake;  // dropout masks of the critic step, [B, hidden] per head
  std::vector<at::Tensor> keep_real;
  at::Tensor r1_noise;                // Z; only with r1_weight
};

/// Sample of the student and its noised form, shared by both kinds of step (TMD Sec. 3.2, Algorithm 2).
struct StudentSample {
  at::Tensor t, td;                   // [B] float64
  at::Tensor x_t, y_hat, x_hat, xh_t; // Z; xh_t = (1 - t_d) x_hat + t_d epsilon
};
/// Noised data for M > 1 outer steps, pure noise t x_1 for M = 1; one outer step of `generator`; noise at t_d.
StudentSample sample_student(Generator& generator, const at::Tensor& x, const at::Tensor& text,
                             const Stage2Draws& draws, const Stage2Options& options);

struct StudentStep {
  at::Tensor vsd, gan, loss;  // [B] with gradient: vsd, mean over heads of softplus(-D), vsd + lambda gan
  at::Tensor vsd_weight;      // [B]
  at::Tensor g_fake, g_teacher, logits_fake;  // detached; logits undefined without GAN
  StudentSample sample;
};

/// Student update (TMD App. A.3): variational score distillation plus the GAN term.
///   L_vsd = 0.5 mean((x_hat - sg(x_hat - w (g_F - g_T)))^2),  w = 1 / (mean|x_hat - g_T| + 1e-6)
/// `discriminator` null when gan_weight is 0; neither it nor teacher nor fake score may collect weight gradients.
StudentStep student_step(Generator& generator, VelocityNetwork& teacher, VelocityNetwork& fake,
                         DiscriminatorNetwork* discriminator, const at::Tensor& x, const at::Tensor& text,
                         const at::Tensor& negative_text, const Stage2Draws& draws, const Stage2Options& options);

struct CriticStep {
  at::Tensor fake;           // [B] with gradient: mean over elements of (x_hat - g_F)^2
  at::Tensor discriminator;  // [B] with gradient: mean over heads of softplus(D(fake)) + softplus(-D(real))
  at::Tensor r1;             // [B] with gradient, mean over heads of (D(x_real) - D(x_real + sigma n))^2
  at::Tensor loss;           // fake + discriminator + r1_weight r1
  at::Tensor g_fake, logits_fake, logits_real;  // detached
  StudentSample sample;
};

/// Update of fake score and discriminator on detached student samples (TMD App. A.3). `r1` is computed when
/// r1_weight > 0; its noise is added to the noised real latent, not to the clean one.
CriticStep critic_step(Generator& generator, VelocityNetwork& teacher, VelocityNetwork& fake,
                       DiscriminatorNetwork* discriminator, const at::Tensor& x, const at::Tensor& text,
                       const Stage2Draws& draws, const Stage2Options& options);

}  // namespace tmd::method
