#include "method/grids.h"

#include <cmath>

#include "method/flow.h"

namespace tmd::method {

std::vector<double> student_grid(int steps, double g, double t_max) {
  std::vector<double> grid = {0.0};
  for (int i = 1; i <= steps; ++i) {
    // The guard keeps values such as 333.0, which arrive as 332.9999999, from losing a whole timestep.
    grid.push_back(std::floor(1000 * shift(t_max * i / steps, g) + 1e-9) / 1000);
  }
  return grid;
}

std::vector<double> teacher_sigmas(int steps, double g, SigmaGrid grid) {
  const double first = grid == SigmaGrid::kWan ? 0.999 : 1.0;
  const double last = grid == SigmaGrid::kWan ? 0.0 : 0.001;
  std::vector<double> sigmas;
  for (int i = 0; i < steps; ++i) sigmas.push_back(shift(first + (last - first) * i / steps, g));
  if (grid == SigmaGrid::kDiffusers && sigmas.front() == 1.0) sigmas.front() -= 1e-6;
  sigmas.push_back(0);
  return sigmas;
}

double effective_nfe(int outer_steps, int inner_steps, int head_blocks, int layers) {
  return outer_steps * (1 + (inner_steps - 1) * static_cast<double>(head_blocks) / layers);
}

}  // namespace tmd::method
