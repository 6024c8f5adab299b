#pragma once

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>

#include "method/stage2.h"
#include "paper_networks.h"
#include "paper_stage1.h"

// Rollout and stage 2 in float64 and one sample at a time, as Algorithms 1 and 2 and App. A.3 of the paper
// write them.
namespace tmd::test {

/// The inner flow from y_1 by average velocities (TMD Eq. 12, 13 with the minus sign, 15), or by Euler steps
/// of the instantaneous one, which for the default form is (y - E[y]) / s.
inline Tensor paper_roll_out(const PaperInner& inner, const std::vector<double>& grid_s,
                             method::InnerVelocity velocity = method::InnerVelocity::kAverage) {
  Tensor y = inner.y_1;
  for (size_t j = grid_s.size() - 1; j >= 1; --j) {
    const double s = grid_s[j], before = grid_s[j - 1];
    Tensor u;
    if (velocity == method::InnerVelocity::kAverage)
      u = paper_u(inner, y, one(s), one(before));
    else if (inner.form == method::InnerForm{})
      u = (y - student_head(inner.w, y, one(s), one(s), inner.m)) / s;
    else
      u = paper_u(inner, y, one(s), one(s));
    y = y - (s - before) * u;
  }
  return y;
}

/// A student with the options that its generator has.
struct PaperGenerator {
  const Tensor& w;
  std::vector<double> grid_s;
  method::InnerForm form;
  method::InnerVelocity velocity = method::InnerVelocity::kAverage;

  PaperInner inner(const Tensor& x_t, double t, const Tensor& text, const Tensor& y_1) const {
    return {w, form, student_backbone(w, x_t, one(t), text), x_t, y_1, t};
  }
  /// x_1 - x for an inner sample y of either target.
  Tensor velocity_of(const Tensor& y, const Tensor& x_t, double t) const {
    return form.target == method::InnerTarget::kClean ? (x_t - y) / t : y;
  }
  Tensor y_hat(const Tensor& x_t, double t, const Tensor& text, const Tensor& y_1) const {
    return velocity_of(paper_roll_out(inner(x_t, t, text, y_1), grid_s, velocity), x_t, t);
  }
};

/// TMD Eq. 18 in its form x' = (t'/t) x + (1 - t'/t) g with g = x - t y_hat, or Eq. 19.
inline Tensor paper_outer_step(method::OuterStep kind, const Tensor& x, const Tensor& y_hat, double t,
                               double next, const Tensor& epsilon) {
  const Tensor g = x - t * y_hat;
  if (kind == method::OuterStep::kDeterministic) return next / t * x + (1 - next / t) * g;
  return next == 0 ? g : (1 - next) * g + next * epsilon;
}

struct Stage2Inputs {
  Tensor x, text, negative;
  method::Stage2Draws draws;
};

struct PaperSample {
  double td = 0;
  Tensor x_t, y_hat, x_hat, xh_t;
};

inline double paper_td(const Tensor& uniform, int64_t b, const method::Stage2Options& options) {
  const double shifted = paper_shift(uniform[b].item<double>(), options.td_shift);
  return std::min(std::max(shifted, options.td_low), options.td_high);
}

inline PaperSample paper_sample(const PaperGenerator& generator, const Stage2Inputs& in, int64_t b,
                                const method::Stage2Options& options) {
  const Tensor x = row(in.x, b), text = row(in.text, b), x_1 = row(in.draws.x_1, b),
               y_1 = row(in.draws.y_1, b), epsilon = row(in.draws.epsilon, b);
  const std::vector<double>& grid = options.grid_t;
  const auto M = static_cast<int64_t>(grid.size()) - 1, i = in.draws.outer_index[b].item<int64_t>();
  const double t = grid[i];
  PaperSample out;
  if (options.input == method::OuterInput::kSimulation || M == 1) {
    out.x_t = grid[M] * x_1;
    for (int64_t k = M; k > i; --k) {
      const Tensor y_hat =
          generator.y_hat(out.x_t, grid[k], text, row(in.draws.y_1_before[M - k], b)).detach();
      const bool renoise = options.outer_step == method::OuterStep::kRenoise;
      const Tensor noise = renoise ? row(in.draws.epsilon_before[M - k], b) : Tensor();
      out.x_t = paper_outer_step(options.outer_step, out.x_t, y_hat, grid[k], grid[k - 1], noise);
    }
  } else {
    out.x_t = (1 - t) * x + t * x_1;
  }
  if (options.rollout) {
    out.y_hat = generator.y_hat(out.x_t, t, text, y_1);
  } else {  // A15: one call from a state of the real path to r = 0
    const double s = options.grid_s[in.draws.inner_index[b].item<int64_t>()];
    const Tensor y = generator.form.target == method::InnerTarget::kClean ? x : x_1 - x;
    const Tensor y_s = (1 - s) * y + s * y_1;
    const PaperInner inner = generator.inner(out.x_t, t, text, y_1);
    out.y_hat = generator.velocity_of(y_s - s * paper_u(inner, y_s, one(s), one(0)), out.x_t, t);
  }
  out.x_hat = options.x_hat == method::XHat::kX1MinusY ? x_1 - out.y_hat : out.x_t - t * out.y_hat;
  out.td = paper_td(in.draws.td_uniform, b, options);
  out.xh_t = (1 - out.td) * out.x_hat + out.td * epsilon;
  return out;
}

/// Batches of the samples' fields, to compare with the product's.
struct PaperBatch {
  std::vector<Tensor> x_t, y_hat, x_hat, xh_t;
  void add(const PaperSample& sample) {
    x_t.push_back(sample.x_t);
    y_hat.push_back(sample.y_hat);
    x_hat.push_back(sample.x_hat);
    xh_t.push_back(sample.xh_t);
  }
};

/// Leaves of the networks of stage 2.
struct Stage2Weights {
  Tensor student, teacher, fake, discriminator;
};

inline Tensor log_one_plus_exp(const Tensor& z) { return at::log1p(at::exp(z)); }
inline Tensor clean(const Tensor& w, const Tensor& x, double t, const Tensor& text) {
  return x - t * velocity_formula(w, x, one(t), text);
}

struct PaperStudentStep {
  Tensor vsd, gan, loss, weight, g_fake, g_teacher, logits;
  PaperBatch batch;
};

/// Student update (TMD App. A.3, spec 4.2, 4.4).
inline PaperStudentStep paper_student_step(const Stage2Weights& weights, const PaperGenerator& generator,
                                           const Stage2Inputs& in, const method::Stage2Options& options) {
  std::vector<Tensor> vsd, gan, loss, weight, g_fake, g_teacher, logits;
  PaperStudentStep out;
  for (int64_t b = 0; b < in.x.size(0); ++b) {
    const PaperSample sample = paper_sample(generator, in, b, options);
    out.batch.add(sample);
    const Tensor text = row(in.text, b);
    const Tensor gF = clean(weights.fake, sample.xh_t, sample.td, text).detach();
    const Tensor conditional = clean(weights.teacher, sample.xh_t, sample.td, text).detach(),
                 unconditional = clean(weights.teacher, sample.xh_t, sample.td, in.negative).detach();
    const Tensor gT = conditional + (options.cfg - 1) * (conditional - unconditional);
    const bool printed = options.vsd_norm == method::VsdNorm::kFakeMinusTeacher;
    const Tensor below = printed ? gF - gT : sample.x_hat.detach() - gT;
    const double w = 1 / (below.abs().mean().item<double>() + 1e-6);
    const Tensor goal = (sample.x_hat - w * (gF - gT)).detach();
    vsd.push_back(0.5 * (sample.x_hat - goal).square().mean().view({1}));
    loss.push_back(vsd.back());
    if (options.gan_weight > 0) {
      const Tensor& eyes = options.features == method::FeatureSource::kFake ? weights.fake : weights.teacher;
      logits.push_back(discriminator_formula(weights.discriminator,
                                             feature_formula(eyes, sample.xh_t, one(sample.td), text), {}));
      gan.push_back(log_one_plus_exp(-logits.back()).mean(1));
      loss.back() = vsd.back() + options.gan_weight * gan.back();
    }
    weight.push_back(one(w));
    g_fake.push_back(gF);
    g_teacher.push_back(gT);
  }
  out.vsd = at::cat(vsd);
  out.loss = at::cat(loss);
  out.weight = at::cat(weight);
  out.g_fake = at::cat(g_fake);
  out.g_teacher = at::cat(g_teacher);
  if (!gan.empty()) out.gan = at::cat(gan);
  if (!gan.empty()) out.logits = at::cat(logits);
  return out;
}

struct PaperCriticStep {
  Tensor fake, discriminator, r1, loss, g_fake, logits_fake, logits_real;
  PaperBatch batch;
};

/// Losses of the discriminator for one sample, features without gradient.
struct PaperJudgement {
  Tensor loss, r1, logits_fake, logits_real;
};
inline PaperJudgement paper_judge(const Stage2Weights& weights, const PaperSample& sample,
                                  const Stage2Inputs& in, int64_t b, const method::Stage2Options& options) {
  const Tensor& eyes = options.features == method::FeatureSource::kFake ? weights.fake : weights.teacher;
  const auto judge = [&](const Tensor& x, double t, const std::vector<Tensor>& keep) {
    std::vector<Tensor> maps = feature_formula(eyes, x, one(t), row(in.text, b)), masks;
    for (Tensor& map : maps) map = map.detach();
    for (const Tensor& mask : keep) masks.push_back(row(mask, b));
    return discriminator_formula(weights.discriminator, maps, masks);
  };
  const bool own = options.real_noise == method::RealNoise::kIndependent;
  const double t = own ? paper_td(in.draws.td_real, b, options) : sample.td;
  const Tensor epsilon = row(own ? in.draws.epsilon_real : in.draws.epsilon, b);
  const Tensor real = (1 - t) * row(in.x, b) + t * epsilon;
  PaperJudgement out;
  out.logits_fake = judge(sample.xh_t, sample.td, in.draws.keep_fake);
  out.logits_real = judge(real, t, in.draws.keep_real);
  out.loss = (log_one_plus_exp(out.logits_fake) + log_one_plus_exp(-out.logits_real)).mean(1);
  if (options.r1_weight > 0) {
    const Tensor near = real + options.r1_sigma * row(in.draws.r1_noise, b);
    out.r1 = (out.logits_real - judge(near, t, in.draws.keep_real)).square().mean(1);
  }
  return out;
}

/// Update of fake score and discriminator (TMD App. A.3, spec 4.3, 4.4).
inline PaperCriticStep paper_critic_step(const Stage2Weights& weights, const PaperGenerator& generator,
                                         const Stage2Inputs& in, const method::Stage2Options& options) {
  std::vector<Tensor> fake, discriminator, r1, loss, g_fake, logits_fake, logits_real;
  PaperCriticStep out;
  for (int64_t b = 0; b < in.x.size(0); ++b) {
    PaperSample sample = paper_sample(generator, in, b, options);
    for (Tensor* field : {&sample.x_t, &sample.y_hat, &sample.x_hat, &sample.xh_t}) *field = field->detach();
    out.batch.add(sample);
    g_fake.push_back(clean(weights.fake, sample.xh_t, sample.td, row(in.text, b)));
    fake.push_back((sample.x_hat - g_fake.back()).square().mean().view({1}));
    loss.push_back(fake.back());
    if (options.gan_weight == 0) continue;
    const PaperJudgement verdict = paper_judge(weights, sample, in, b, options);
    discriminator.push_back(verdict.loss);
    logits_fake.push_back(verdict.logits_fake);
    logits_real.push_back(verdict.logits_real);
    loss.back() = loss.back() + verdict.loss;
    if (options.r1_weight == 0) continue;
    r1.push_back(verdict.r1);
    loss.back() = loss.back() + options.r1_weight * verdict.r1;
  }
  out.fake = at::cat(fake);
  out.loss = at::cat(loss);
  out.g_fake = at::cat(g_fake);
  if (!discriminator.empty()) out.discriminator = at::cat(discriminator);
  if (!discriminator.empty()) out.logits_fake = at::cat(logits_fake);
  if (!discriminator.empty()) out.logits_real = at::cat(logits_real);
  if (!r1.empty()) out.r1 = at::cat(r1);
  return out;
}

/// Six samples on three outer steps, with every draw that any option needs.
inline Stage2Inputs stage2_inputs() {
  at::manual_seed(5);
  const std::vector<int64_t> z = {6, 2, 2, 2, 2};
  Stage2Inputs in;
  in.x = normal(z);
  in.text = normal({6, 2, 3});
  in.negative = normal({1, 2, 3});
  method::Stage2Draws& draws = in.draws;
  for (Tensor* noise : {&draws.x_1, &draws.y_1, &draws.epsilon, &draws.r1_noise, &draws.epsilon_real})
    *noise = normal(z);
  draws.outer_index = at::tensor({1, 2, 3, 1, 3, 2}, at::kLong);
  draws.inner_index = at::tensor({2, 1, 2, 1, 2, 1}, at::kLong);
  draws.td_uniform = at::tensor({0.21, 0.5, 0.9, 0.03, 0.9989, 0.37}, at::kDouble);
  draws.td_real = at::tensor({0.4, 0.15, 0.6, 0.77, 0.0013, 0.25}, at::kDouble);
  for (int h = 0; h < kHeads; ++h) {
    draws.keep_fake.push_back((at::rand({6, kHidden}) < 0.7).to(at::kDouble));
    draws.keep_real.push_back((at::rand({6, kHidden}) < 0.7).to(at::kDouble));
  }
  for (int k = 0; k < 2; ++k) {
    draws.y_1_before.push_back(normal(z));
    draws.epsilon_before.push_back(normal(z));
  }
  return in;
}

inline Stage2Inputs in_type(const Stage2Inputs& in, at::ScalarType type) {
  Stage2Inputs out = in;
  method::Stage2Draws& draws = out.draws;
  for (Tensor* one_of : {&out.x, &out.text, &out.negative, &draws.x_1, &draws.y_1, &draws.epsilon,
                         &draws.r1_noise, &draws.epsilon_real})
    *one_of = one_of->to(type);
  for (auto* several : {&draws.keep_fake, &draws.keep_real, &draws.y_1_before, &draws.epsilon_before})
    for (Tensor& entry : *several) entry = entry.to(type);
  return out;
}

/// Options on the grids that the inputs are for.
inline method::Stage2Options stage2_options() {
  method::Stage2Options options;
  options.grid_t = {0, 0.62, 0.9, 0.999};
  options.grid_s = {0, 0.908, 0.999};
  options.gan_weight = 0.7;  // large, so that its gradients are
  return options;
}

inline Stage2Weights stage2_weights() {
  at::manual_seed(6);
  return {some_weights({kStudentWeights}), some_weights({kVelocityWeights}), some_weights({kVelocityWeights}),
          2 * some_weights({2, kHeads, kHidden})};
}

}  // namespace tmd::test
