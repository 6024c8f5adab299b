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

}  // namespace
}  // namespace tmd::orchestrator
