#include "orchestrator/diffusers_scheduler.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "method/flow.h"
#include "method/grids.h"

namespace tmd::orchestrator {
namespace {

// tests/parity holds euler_scheduler_times against diffusers itself.
std::vector<double> times(const std::vector<double>& grid) {
  const nlohmann::json config = nlohmann::json::parse(euler_scheduler_json(grid));
  EXPECT_EQ(config.at("_class_name"), "FlowMatchEulerDiscreteScheduler");
  return euler_scheduler_times(static_cast<int>(grid.size()) - 1, config.at("shift"),
                               config.value("shift_terminal", 0.0));
}

TEST(DiffusersScheduler, an_unrounded_grid_is_met_exactly_for_every_number_of_steps) {
  for (const double shift : {1.0, 3.0, 5.0, 10.0}) {
    for (const int steps : {1, 2, 3, 4, 8, 16}) {
      std::vector<double> grid = {0};
      for (int i = 1; i <= steps; ++i) grid.push_back(method::shift(static_cast<double>(i) / steps, shift));
      const std::vector<double> visited = times(grid);
      ASSERT_EQ(visited.size(), static_cast<size_t>(steps));
      for (int k = 0; k < steps; ++k)
        EXPECT_NEAR(visited[k], grid[steps - k], 1e-12) << shift << " " << steps;
    }
  }
}

TEST(DiffusersScheduler, the_grids_of_students_are_met_within_a_thousandth) {
  for (const double shift : {1.0, 5.0, 10.0}) {
    for (const int steps : {1, 2, 3, 4, 8}) {
      const std::vector<double> grid = method::student_grid(steps, shift);
      const std::vector<double> visited = times(grid);
      for (int k = 0; k < steps; ++k)
        EXPECT_NEAR(visited[k], grid[steps - k], 1.5e-3) << shift << " " << steps;
    }
  }
}

TEST(DiffusersScheduler, a_teacher_keeps_its_solver_and_its_times) {
  ExportInfo info;
  info.is_teacher = true;
  info.sampler.shift = 5;
  for (const int64_t steps : {2, 4, 50}) {
    info.sampler.steps = steps;
    info.sampler.solver = configs::SamplerOptions::Solver::kEuler;
    const nlohmann::json euler = nlohmann::json::parse(diffusers_scheduler_json(info));
    EXPECT_EQ(euler.at("_class_name"), "FlowMatchEulerDiscreteScheduler");
    const std::vector<double> visited =
        euler_scheduler_times(static_cast<int>(steps), euler.at("shift"), euler.value("shift_terminal", 0.0));
    EXPECT_EQ(visited, diffusers_times(info));
    const std::vector<double> wanted = sampling_times(info);
    ASSERT_EQ(wanted.size(), static_cast<size_t>(steps));
    EXPECT_DOUBLE_EQ(wanted.front(), method::shift(0.999, 5));
    for (size_t k = 0; k < wanted.size(); ++k) EXPECT_NEAR(visited[k], wanted[k], 2e-3) << steps << " " << k;

    info.sampler.solver = configs::SamplerOptions::Solver::kUniPc;
    const nlohmann::json unipc = nlohmann::json::parse(diffusers_scheduler_json(info));
    EXPECT_EQ(unipc.at("_class_name"), "UniPCMultistepScheduler");
    EXPECT_EQ(unipc.at("flow_shift"), 5);
    EXPECT_EQ(diffusers_times(info).size(), static_cast<size_t>(steps));
  }
}

}  // namespace
}  // namespace tmd::orchestrator
