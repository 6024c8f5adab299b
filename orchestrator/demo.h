#pragma once

#include <string>
#include <vector>

#include "orchestrator/demo_stage.h"
#include "orchestrator/demo_table.h"

namespace tmd::orchestrator {

/// What demo_mixture begins, in order.
std::vector<std::string> mixture_phases();
/// T1a: the 2-D mixture. Teacher with 50 and 2 steps, DMD2-v, plain TM and TMD from the same teacher. The
/// result is filled on rank 0. Throws as DemoStage and DemoTable. Collective over: the stage's world.
DemoResult demo_mixture(DemoStage& stage);

/// What demo_shapes begins, in order. `full`: the teacher is trained from nothing, not the shipped one.
std::vector<std::string> shapes_phases(bool full);
/// Throws kData on all ranks when the shipped teacher is needed and is missing or damaged.
void require_shapes_teacher(DemoStage& stage);
/// T1b mini: captioned moving shapes. Teacher with 50 and 2 steps, DMD2-v and TMD with two steps and one. The
/// result is filled on rank 0. Throws as demo_mixture, and kData for a shipped teacher that is missing or
/// damaged. Collective over: the stage's world.
DemoResult demo_shapes(DemoStage& stage);

/// The parts that `options` names, the tables on the console, report.html and demo.json. Returns 0, or 1 when
/// an expectation was missed, on all ranks. Collective over: `world`.
int run_demo(comm::Communicator& world, const DemoOptions& options);

}  // namespace tmd::orchestrator
