#pragma once

#include <string>
#include <vector>

#include "orchestrator/export_info.h"

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

/// The scheduler_config.json of an export: for a student and a teacher that is sampled by Euler steps the
/// nearest that FlowMatchEulerDiscreteScheduler comes to their times in their steps, else UniPC.
std::string diffusers_scheduler_json(const ExportInfo& info);
/// The times of an export, noise side first, without the last 0, as the network's own sampler takes them.
std::vector<double> sampling_times(const ExportInfo& info);
/// The times that diffusers visits with that configuration; for UniPC its flow sigmas.
std::vector<double> diffusers_times(const ExportInfo& info);

/// The times that FlowMatchEulerDiscreteScheduler visits in `steps` steps with a shift and a terminal (0:
/// none), noise side first, without the last 0. For tests and for what an export says of itself.
std::vector<double> euler_scheduler_times(int steps, double shift, double shift_terminal);

}  // namespace tmd::orchestrator
