#include "orchestrator/plan.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"

namespace tmd::orchestrator {

using method::Phase;
using sharding::MemoryCounter;
using workers::Stage;

namespace {

int64_t begin_of(const configs::Config& config, Stage stage) {
  int64_t begin = 0;
  for (Stage other : config.stage_list()) {
    if (other < stage) begin += config.iterations(other);
  }
  return begin;
}

std::vector<Phase> phases_of(const configs::Config& config, Stage stage) {
  if (stage == Stage::kTeacher) return {Phase::kTeacher};
  if (stage == Stage::kStage1) return {Phase::kStage1};
  if (stage == Stage::kKd) return {Phase::kKd};
  if (config.stages.stage2.student_every == 1) return {Phase::kStudent};
  return {Phase::kCritic, Phase::kStudent};
}

std::string step_name(Phase phase) {
  if (phase == Phase::kStage1) return "stage-1 step";
  return fmt::format("{} step", method::name(phase));
}

// Iterations of a stage that update what `phase` says.
int64_t iterations_of(const configs::Config& config, Stage stage, Phase phase) {
  const int64_t all = config.iterations(stage);
  if (stage != Stage::kStage2) return all;
  const int64_t student = method::student_updates(all, config.stages.stage2.student_every);
  return phase == Phase::kStudent ? student : all - student;
}

// The second one of the phase, counted over the run. Its draws are those of the run.
int64_t second_iteration(const configs::Config& config, Stage stage, Phase phase) {
  const int64_t every = config.stages.stage2.student_every;
  int64_t in_stage = 0, found = 0;
  while (found < 2) {
    ++in_stage;
    if (stage != Stage::kStage2 || method::stage2_phase(in_stage, every) == phase) ++found;
  }
  return begin_of(config, stage) + in_stage;
}

MemoryCounter::Counts counts_of(const DeviceModel& device) {
  return device.is_host ? MemoryCounter::Counts::kAll : MemoryCounter::Counts::kMetaOnly;
}

}  // namespace

int64_t Plan::peak() const {
  int64_t peak = 0;
  for (const PlannedPhase& phase : phases) peak = std::max(peak, phase.need.peak.total);
  return peak;
}

Plan make_plan(const PlanInput& input, const DeviceModel& device) {
  const configs::Config& config = input.config;
  DryRun run(input, counts_of(device));
  Plan plan{.mesh = run.mesh(), .micro_batches = run.micro_batches(), .phases = {}, .run_seconds = 0};
  for (Stage stage : config.stage_list()) {
    check(config.iterations(stage) >= 1, ErrorKind::kConfig,
          fmt::format("run.stages names {0}, and {0}.iterations is 0", name(stage)));
    run.enter(stage);
    for (Phase phase : phases_of(config, stage)) {
      PhaseNeed need = run.iterate(phase, second_iteration(config, stage, phase));
      const IterationEstimate time = estimate(device, need, run.stepped_elements(phase));
      plan.run_seconds += time.total() * static_cast<double>(iterations_of(config, stage, phase));
      plan.phases.push_back({step_name(phase), std::move(need), time});
    }
    plan.phases.push_back({name(stage) + " checkpoint", run.rest(), {}});
    if (run.samples()) plan.phases.push_back({name(stage) + " sampling", run.sample(), {}});
  }
  return plan;
}

PhaseNeed plan_phase(const PlanInput& input, Stage stage, Phase phase, int64_t iteration, at::Device device) {
  DryRun run(input, device.is_cpu() ? MemoryCounter::Counts::kAll : MemoryCounter::Counts::kMetaOnly);
  run.enter(stage);
  return run.iterate(phase, iteration);
}

}  // namespace tmd::orchestrator
