#include "workers/head_sensitivity.h"

#include <cmath>
#include <numeric>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "comm/agree.h"
#include "method/draws.h"
#include "method/flow.h"
#include "method/grids.h"
#include "method/inner_flow.h"

namespace tmd::workers {
namespace {

double sum_of_squares(const at::Tensor& x) { return x.to(at::kDouble).square().sum().item<double>(); }

// Ratio of two norms from their squares; 0 where nothing comes out at all.
double ratio(double difference, double whole) { return whole > 0 ? std::sqrt(difference / whole) : 0; }

}  // namespace

std::map<std::string, double> head_sensitivity(const NetworkPlan& plan, const MethodOptions& method,
                                               sharding::ShardedNetwork& student, const Batch& batch,
                                               uint64_t seed) {
  if (!is_decoupled(method.name)) return {};
  const at::NoGradGuard no_grad;
  const at::ScalarType type = student.wide_type();
  const at::Tensor x = batch.latents.to(student.device(), type), text = batch.text.to(student.device(), type);
  const int64_t rows = x.size(0);
  std::vector<int64_t> slots(static_cast<size_t>(rows));
  std::iota(slots.begin(), slots.end(), batch.first_slot);
  const method::DrawKey key{seed, static_cast<uint64_t>(batch.iteration), slots};
  const auto draw = [&](Purpose purpose) {
    return method::draw_normal(key, purpose, x.sizes().slice(1), x.options());
  };
  const auto times = [rows](double value) { return at::full({rows}, value, at::kDouble); };
  const at::Tensor x_1 = draw(Purpose::kOuterNoise), y_1 = draw(Purpose::kInnerNoise);
  const at::Tensor other_y_1 = draw(Purpose::kEvaluation);
  const auto grid_t = method::student_grid(static_cast<int>(method.outer_steps), method.outer_shift);
  const auto grid_s = method::student_grid(static_cast<int>(method.inner_steps), method.inner_shift);
  const at::Tensor t = times(grid_t.back()), next = times(grid_t[grid_t.size() - 2]);
  const at::Tensor x_t = method::interpolate(x, x_1, t);

  const auto view = student_view(plan, student, /*weight_gradients=*/false);
  const method::StudentNetwork::MainFeature m = view->backbone(x_t, t, text);
  const at::Tensor s = times(grid_s[1]), r = method.name == MethodName::kTm ? s : times(0);
  const at::Tensor y = method::inner_target(method.form, x, x_1);
  const auto head_of = [&](const at::Tensor& noise) {
    return view->head(method::interpolate(y, noise, s), s, r, m);
  };
  const at::Tensor head = head_of(y_1), other_head = head_of(other_y_1);

  GeneratorView generator(plan, method, student, /*weight_gradients=*/false);
  const at::Tensor y_hat = generator.generator().outer_velocity(x_t, t, next, text, y_1);
  const at::Tensor other_y_hat = generator.generator().outer_velocity(x_t, t, next, text, other_y_1);

  // Ranks that share samples hold the same numbers, which cancel in the ratios.
  double sums[] = {sum_of_squares(head - other_head), sum_of_squares(head),
                   sum_of_squares(y_hat - other_y_hat), sum_of_squares(y_hat)};
  comm::sum(student.mesh().world(), sums);
  return {{"head_sensitivity_ys", ratio(sums[0], sums[1])}, {"head_sensitivity_y1", ratio(sums[2], sums[3])}};
}

}  // namespace tmd::workers
