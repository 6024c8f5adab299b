#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "method/generator.h"
#include "method/networks.h"
#include "method/samplers.h"

namespace tmd::method {

/// Denominator of the VSD gradient. The paper prints |g_F - g_T|_1; FastGen and DMD2 use |x_hat - g_T|_1.
enum class VsdNorm { kXMinusTeacher, kFakeMinusTeacher };
/// Where x_t comes from: noised data, or the student's own outer steps from noise (backward simulation).
enum class OuterInput { kNoisedData, kSimulation };
/// Whose feature maps the discriminator reads (TMD App. A.3: the teacher's are more stable).
enum class FeatureSource { kTeacher, kFake };
/// Whether real samples of the discriminator are noised with t_d and epsilon of the fake ones, or with their
/// own.
enum class RealNoise { kSame, kIndependent };

struct Stage2Options {
  std::vector<double> grid_t = {0, 0.908, 0.999};  ///< outer grid, t_0 = 0
  std::vector<double> grid_s = {0, 0.908, 0.999};  ///< inner grid, s_0 = 0; only without rollout
  InnerForm form;                                  ///< of the student; only without rollout
  XHat x_hat = XHat::kXtMinusTy;
  bool rollout = true;  ///< false: one call of the flow head from a state of the real inner path (A15)
  OuterInput input = OuterInput::kNoisedData;
  OuterStep outer_step = OuterStep::kDeterministic;  ///< of the simulation
  double cfg = 5;                                    ///< teacher guidance (TMD Table 7)
  double td_shift = 5;                               ///< shift of the diffusion time t_d
  double td_low = 0.001, td_high = 0.999;            ///< range of the uniform number, and clamp of t_d
  VsdNorm vsd_norm = VsdNorm::kXMinusTeacher;
  FeatureSource features = FeatureSource::kTeacher;
  RealNoise real_noise = RealNoise::kSame;
  double gan_weight = 0.03;  ///< lambda of the generator's GAN term; 0 = no discriminator
  double r1_weight = 0;      ///< of the approximate R1 term; 0 = not computed
  double r1_sigma = 0.1;     ///< size of its noise
};

/// Random numbers of a step, one row per sample.
struct Stage2Draws {
  at::Tensor x_1, y_1, epsilon;       ///< Z, N(0, 1)
  at::Tensor outer_index;             ///< [B] int64, i in 1 .. M
  at::Tensor td_uniform;              ///< [B] float64, uniform in [td_low, td_high), before shift and clamp
  std::vector<at::Tensor> keep_fake;  ///< dropout masks of the critic step, [B, hidden] per head
  std::vector<at::Tensor> keep_real;  ///< the same for the real samples; the R1 pass uses them again
  at::Tensor r1_noise;                ///< Z; only with r1_weight
  at::Tensor inner_index = {};        ///< [B] int64, j in 1 .. N; only without rollout
  at::Tensor td_real = {}, epsilon_real = {};  ///< as td_uniform and epsilon; only with independent noise
  /// Z each, of the outer steps M .. 2 of a simulation: inner noise, and, where it renews the noise, the new
  /// one.
  std::vector<at::Tensor> y_1_before = {}, epsilon_before = {};
};

/// Sample of the student and its noised form, shared by both kinds of step (TMD Sec. 3.2, Algorithm 2).
struct StudentSample {
  at::Tensor t, td;                    ///< [B] float64
  at::Tensor x_t, y_hat, x_hat, xh_t;  ///< Z; xh_t = (1 - t_d) x_hat + t_d epsilon
};
/// x_t: noised data for M > 1 outer steps, pure noise t x_1 for M = 1, or what M - i steps of a simulation
/// lead to, which start at t_M x_1 and carry no gradient; then one outer step of `generator`; then noise at
/// t_d. Without rollout y_hat = y_s - s (y_1 - h(y_s, s, 0)) from y_s = (1 - s) y + s y_1 at s = s_j. x Z
/// data (values unused for M = 1), text [B, S, E]. Gradients flow to the generator unless off.
StudentSample sample_student(Generator& generator, const at::Tensor& x, const at::Tensor& text,
                             const Stage2Draws& draws, const Stage2Options& options);

struct StudentStep {
  /// [B] float64 with gradient: vsd, mean over heads of softplus(-D), vsd + lambda gan. `gan` undefined
  /// without GAN.
  at::Tensor vsd, gan, loss;
  at::Tensor vsd_weight;                      ///< [B] float64 w, without gradient
  at::Tensor g_fake, g_teacher, logits_fake;  ///< Z, Z, [B, heads], detached; logits undefined without GAN
  StudentSample sample;                       ///< with gradient
};

/// Student update (TMD App. A.3): variational score distillation plus the GAN term.
///   L_vsd = 0.5 mean((x_hat - sg(x_hat - w (g_F - g_T)))^2),  w = 1 / (mean|x_hat - g_T| + 1e-6)
/// x Z data, text [B, S, E], negative_text [1, S, E]; g_T is guided, g_F conditional only. `discriminator`
/// null when gan_weight is 0; neither it nor teacher nor fake score may collect weight gradients. With a
/// discriminator the teacher's feature maps carry gradients to x_hat.
/// Collective over: the ranks that the networks are cut over.
StudentStep student_step(Generator& generator, VelocityNetwork& teacher, VelocityNetwork& fake,
                         DiscriminatorNetwork* discriminator, const at::Tensor& x, const at::Tensor& text,
                         const at::Tensor& negative_text, const Stage2Draws& draws,
                         const Stage2Options& options);

struct CriticStep {
  // Losses are [B] float64 with gradient. Without GAN `discriminator`, `r1` and the logits are undefined,
  // `r1` also when r1_weight is 0.
  at::Tensor fake;                              ///< mean over elements of (x_hat - g_F)^2
  at::Tensor discriminator;                     ///< mean over heads of softplus(D(fake)) + softplus(-D(real))
  at::Tensor r1;                                ///< mean over heads of (D(x_real) - D(x_real + sigma n))^2
  at::Tensor loss;                              ///< fake + discriminator + r1_weight r1
  at::Tensor g_fake, logits_fake, logits_real;  ///< Z, [B, heads], [B, heads], detached
  StudentSample sample;                         ///< without gradient
};

/// Update of fake score and discriminator on detached student samples (TMD App. A.3). Real samples are noised
/// with the t_d and epsilon of the fake ones unless `options.real_noise` says otherwise. The fake score's
/// feature maps do not carry the discriminator's loss to it. `r1` is computed when r1_weight > 0; its noise
/// is added to the noised real latent, not to the clean one. x Z data, text [B, S, E]. `discriminator` may be
/// null. Collective over: the ranks that the networks are cut over.
CriticStep critic_step(Generator& generator, VelocityNetwork& teacher, VelocityNetwork& fake,
                       DiscriminatorNetwork* discriminator, const at::Tensor& x, const at::Tensor& text,
                       const Stage2Draws& draws, const Stage2Options& options);

}  // namespace tmd::method
