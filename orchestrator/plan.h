#pragma once

#include <optional>
#include <string>
#include <vector>

#include "configs/config.h"
#include "orchestrator/device_model.h"
#include "orchestrator/dry_run.h"

namespace tmd::orchestrator {

/// One line of a plan.
struct PlannedPhase {
  std::string name;  ///< "stage-1 step", "critic step", "stage2 checkpoint"
  PhaseNeed need;
  IterationEstimate time;  ///< zero unless the phase is an iteration
};

struct Plan {
  sharding::MeshShape mesh;
  int64_t micro_batches = 0;  ///< of a rank in an iteration
  std::vector<PlannedPhase> phases;
  double run_seconds = 0;  ///< all iterations of all stages, by the estimate

  int64_t peak() const;
  bool fits(const DeviceModel& device) const { return peak() <= device.memory_bytes; }
};

/// Dry run of every stage. Throws as DryRun, kConfig for a stage of no
/// iterations.
Plan make_plan(const PlanInput& input, const DeviceModel& device);

/// Of one iteration of one phase as a run on `device` can measure it. `iteration`: whose draws it has.
PhaseNeed plan_phase(const PlanInput& input, workers::Stage stage, method::Phase phase, int64_t iteration,
                     at::Device device = at::kCPU);

/// Tables of a plan as text.
std::string plan_text(const Plan& plan, const DeviceModel& device);

/// The mesh drawn with rank numbers.
std::string mesh_text(const sharding::MeshShape& mesh);

}  // namespace tmd::orchestrator
