#include "method/samplers.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "method/flow.h"

namespace tmd::method {
namespace {

// Guided velocity at sigma, float64.
at::Tensor guided_velocity(VelocityNetwork& teacher, const at::Tensor& x, double sigma,
                           const at::Tensor& text, const at::Tensor& negative_text,
                           const GuidanceOptions& options) {
  const double time = options.model_time == ModelTime::kInteger ? std::floor(1000 * sigma) / 1000 : sigma;
  const at::Tensor t = at::full({x.size(0)}, time, at::kDouble);
  const at::Tensor conditional = teacher.velocity(x, t, text);
  if (options.cfg == 1) return conditional.to(at::kDouble);
  const at::Tensor shown = negative_text.expand({x.size(0), -1, -1}).contiguous();
  const at::Tensor negative = options.skip_block < 0
                                  ? teacher.velocity(x, t, shown)
                                  : teacher.velocity_without(options.skip_block, x, t, shown);
  return guide(conditional.to(at::kDouble), negative.to(at::kDouble), options.cfg);
}

double log_snr_half(double sigma) { return std::log((1 - sigma) / sigma); }  // lambda of the flow path

// State that UniPC carries from step to step; index 0 is the newest.
struct UniPcHistory {
  std::vector<at::Tensor> clean;  // estimates m at the uncorrected states
  std::vector<double> sigma;
  at::Tensor x;   // corrected state that the last predictor started from
  int order = 1;  // of that predictor
};

at::Tensor unipc_correct(const UniPcHistory& h, const at::Tensor& clean, double sigma) {
  const double step = log_snr_half(sigma) - log_snr_half(h.sigma[0]);
  const double b = std::expm1(-step), alpha = 1 - sigma;
  const at::Tensor base = (sigma / h.sigma[0]) * h.x - alpha * b * h.clean[0];
  if (h.order == 1) return base - alpha * b * 0.5 * (clean - h.clean[0]);
  const double r = (log_snr_half(h.sigma[1]) - log_snr_half(h.sigma[0])) / step;
  const double p2 = b / -step - 1, p3 = p2 / -step - 0.5, b1 = p2 / b, b2 = 2 * p3 / b;
  const double rho1 = (b1 - b2) / (1 - r), rho2 = b1 - rho1;
  return base - alpha * b * (rho1 * (h.clean[1] - h.clean[0]) / r + rho2 * (clean - h.clean[0]));
}

at::Tensor unipc_predict(const UniPcHistory& h, double sigma) {
  if (sigma == 0) return h.clean[0];
  const double step = log_snr_half(sigma) - log_snr_half(h.sigma[0]);
  const double b = std::expm1(-step), alpha = 1 - sigma;
  const at::Tensor first = (sigma / h.sigma[0]) * h.x - alpha * b * h.clean[0];
  if (h.order == 1) return first;
  const double r = (log_snr_half(h.sigma[1]) - log_snr_half(h.sigma[0])) / step;
  return first - alpha * b * 0.5 * (h.clean[1] - h.clean[0]) / r;
}

}  // namespace

at::Tensor sample_euler(VelocityNetwork& teacher, const at::Tensor& x, const at::Tensor& text,
                        const at::Tensor& negative_text, const std::vector<double>& sigmas,
                        const GuidanceOptions& options, const StepObserver& observe) {
  const at::NoGradGuard no_grad;
  at::Tensor state = x;
  for (size_t i = 0; i + 1 < sigmas.size(); ++i) {
    const at::Tensor v = guided_velocity(teacher, state, sigmas[i], text, negative_text, options);
    state = (state.to(at::kDouble) + (sigmas[i + 1] - sigmas[i]) * v).to(x.scalar_type());
    if (observe) observe(static_cast<int>(i), state);
  }
  return state;
}

at::Tensor sample_unipc(VelocityNetwork& teacher, const at::Tensor& x, const at::Tensor& text,
                        const at::Tensor& negative_text, const std::vector<double>& sigmas,
                        const GuidanceOptions& options, const StepObserver& observe) {
  const at::NoGradGuard no_grad;
  const int steps = static_cast<int>(sigmas.size()) - 1;
  UniPcHistory history;
  history.x = x.to(at::kDouble);
  at::Tensor state = history.x;  // predicted, not yet corrected
  for (int i = 0; i < steps; ++i) {
    const at::Tensor shown = state.to(x.scalar_type());
    const at::Tensor clean =
        state - sigmas[i] * guided_velocity(teacher, shown, sigmas[i], text, negative_text, options);
    if (i > 0) history.x = unipc_correct(history, clean, sigmas[i]);
    history.clean.insert(history.clean.begin(), clean);
    history.sigma.insert(history.sigma.begin(), sigmas[i]);
    history.clean.resize(std::min<size_t>(history.clean.size(), 2));
    history.sigma.resize(history.clean.size());
    history.order = std::min({2, steps - i, i + 1});
    state = unipc_predict(history, sigmas[i + 1]);
    if (observe) observe(i, state);
  }
  return state.to(x.scalar_type());
}

at::Tensor outer_step(OuterStep kind, const at::Tensor& x, const at::Tensor& y_hat, double t, double next,
                      const at::Tensor& epsilon) {
  const at::Tensor wide = x.to(at::kDouble), y = y_hat.to(at::kDouble);
  if (kind == OuterStep::kDeterministic || next == 0) return (wide - (t - next) * y).to(x.scalar_type());
  return ((1 - next) * (wide - t * y) + next * epsilon.to(at::kDouble)).to(x.scalar_type());
}

at::Tensor sample_student_steps(Generator& generator, const at::Tensor& x, const at::Tensor& text,
                                const std::vector<double>& grid_t, OuterStep kind,
                                const StepNoise& inner_noise, const StepNoise& outer_noise,
                                const StepObserver& observe) {
  const at::NoGradGuard no_grad;
  at::Tensor state = x;
  for (int i = static_cast<int>(grid_t.size()) - 1; i >= 1; --i) {
    const auto batch_of = [&x](double value) { return at::full({x.size(0)}, value, at::kDouble); };
    const at::Tensor y =
        generator.outer_velocity(state, batch_of(grid_t[i]), batch_of(grid_t[i - 1]), text, inner_noise(i));
    const bool renews = kind == OuterStep::kRenoise && i > 1;
    state = outer_step(kind, state, y, grid_t[i], grid_t[i - 1], renews ? outer_noise(i) : at::Tensor());
    if (observe) observe(static_cast<int>(grid_t.size()) - 1 - i, state);
  }
  return state;
}

}  // namespace tmd::method
