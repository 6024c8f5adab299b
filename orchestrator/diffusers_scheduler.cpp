#include "orchestrator/diffusers_scheduler.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "method/flow.h"
#include "method/grids.h"

namespace tmd::orchestrator {
namespace {

constexpr double kSmallest = 0.001;  // the last of the class's 1000 training times, before its shift

struct EulerParameters {
  double shift, terminal;
};

// With u_k = 1 - k d, d = (1 - shift(kSmallest; a)) / (M - 1), the class has 1 - sigma_k proportional to
// k / (1 - (1 - 1/a) d k). A grid shifted by g has 1 - t_k proportional to k / (1 - (1 - 1/g) k / M); its g
// follows from its first time below the start. The two agree for (1 - 1/a) d = (1 - 1/g) / M.
EulerParameters fit(const std::vector<double>& grid_t) {
  const auto steps = static_cast<double>(grid_t.size() - 1);
  if (steps == 1) return {1, 0};
  const double last = grid_t[1];
  if (steps == 2) return {1, last};
  // Shift of the grid, from its last time: last = shift(1 / M; g).
  const double g = last * (steps - 1) / (1 - last);
  double a = g;
  for (int i = 0; i < 200; ++i) {
    const double d = (1 - method::shift(kSmallest, a)) / (steps - 1);
    a = 1 / (1 - (1 - 1 / g) / (steps * d));
  }
  return {a, last};
}

bool is_unipc(const ExportInfo& info) {
  return info.is_teacher && info.sampler.solver == configs::SamplerOptions::Solver::kUniPc;
}

// 0 = t_0 < ... < t_M of a student or a teacher.
std::vector<double> ascending_grid(const ExportInfo& info) {
  if (info.is_student()) return outer_grid(info);
  const configs::SamplerOptions& s = info.sampler;
  std::vector<double> sigmas = method::teacher_sigmas(static_cast<int>(s.steps), s.shift, s.grid);
  std::ranges::reverse(sigmas);
  return sigmas;
}

}  // namespace

std::vector<double> euler_scheduler_times(int steps, double shift, double shift_terminal) {
  const double smallest = method::shift(kSmallest, shift);
  std::vector<double> times;
  for (int k = 0; k < steps; ++k) {
    const double u = steps == 1 ? 1 : 1 + (smallest - 1) * k / (steps - 1);
    times.push_back(method::shift(u, shift));
  }
  if (shift_terminal > 0) {
    const double scale = (1 - times.back()) / (1 - shift_terminal);
    for (double& time : times) time = 1 - (1 - time) / scale;
  }
  return times;
}

std::string euler_scheduler_json(const std::vector<double>& grid_t) {
  const EulerParameters parameters = fit(grid_t);
  nlohmann::ordered_json config = {{"_class_name", "FlowMatchEulerDiscreteScheduler"},
                                   {"num_train_timesteps", 1000},
                                   {"shift", parameters.shift}};
  if (parameters.terminal > 0) config["shift_terminal"] = parameters.terminal;
  config["use_dynamic_shifting"] = false;
  return config.dump(2) + "\n";
}

std::string unipc_scheduler_json(double shift) {
  const nlohmann::ordered_json config = {{"_class_name", "UniPCMultistepScheduler"},
                                         {"flow_shift", shift},
                                         {"num_train_timesteps", 1000},
                                         {"prediction_type", "flow_prediction"},
                                         {"predict_x0", true},
                                         {"solver_order", 2},
                                         {"solver_type", "bh2"},
                                         {"use_flow_sigmas", true}};
  return config.dump(2) + "\n";
}

std::string diffusers_scheduler_json(const ExportInfo& info) {
  return is_unipc(info) ? unipc_scheduler_json(info.sampler.shift)
                        : euler_scheduler_json(ascending_grid(info));
}

std::vector<double> sampling_times(const ExportInfo& info) {
  std::vector<double> times = ascending_grid(info);
  times.erase(times.begin());
  std::ranges::reverse(times);
  return times;
}

std::vector<double> diffusers_times(const ExportInfo& info) {
  if (is_unipc(info)) {
    std::vector<double> sigmas = method::teacher_sigmas(static_cast<int>(info.sampler.steps),
                                                        info.sampler.shift, method::SigmaGrid::kDiffusers);
    sigmas.pop_back();
    return sigmas;
  }
  const std::vector<double> grid = ascending_grid(info);
  const EulerParameters parameters = fit(grid);
  return euler_scheduler_times(static_cast<int>(grid.size()) - 1, parameters.shift, parameters.terminal);
}

}  // namespace tmd::orchestrator
