#pragma once

#include <string>
#include <vector>

#include "configs/config.h"

namespace tmd::orchestrator {

/// scheduler_config.json for diffusers' FlowMatchEulerDiscreteScheduler, with which M steps visit the times
/// of `grid_t` (0 = t_0 < ... < t_M) as closely as that class can: it always starts at 1, and its other times
/// are those of the unrounded grid.
///
/// The class cuts 1 .. sigma_min into M points, shifts them by a, and stretches 1 - sigma so that the last
/// one is `shift_terminal`. Both its times and those of the grid are Moebius maps of the step's number, so
/// `a` and the terminal make them equal for every M.
std::string euler_scheduler_json(const std::vector<double>& grid_t);

/// scheduler_config.json for diffusers' UniPCMultistepScheduler as Wan's teacher is sampled with it.
std::string unipc_scheduler_json(double shift);

/// The times that FlowMatchEulerDiscreteScheduler visits in `steps` steps with a shift and a terminal (0:
/// none), noise side first, without the last 0. For tests and for what an export says of itself.
std::vector<double> euler_scheduler_times(int steps, double shift, double shift_terminal);

}  // namespace tmd::orchestrator
