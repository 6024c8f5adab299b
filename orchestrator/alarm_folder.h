#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "orchestrator/alarm.h"
#include "orchestrator/job.h"
#include "workers/trainer.h"

namespace tmd::orchestrator {

/// A batch that has ended a run.
struct AlarmedBatch {
  int64_t iteration = 0;
  std::string stage;
  std::vector<int64_t> samples;  ///< of all ranks, in slot order
  const AlarmReport& alarm;
  const workers::IterationReport& report;
  const std::vector<workers::KeptBatch>& own;  ///< of this rank
};

/// Where alarms of a run lie: RUN/alarms/step_N (docs/judging.md).
std::filesystem::path alarm_folder(const std::filesystem::path& run, int64_t iteration);
/// The iterations that have one, ascending.
std::vector<int64_t> alarmed_iterations(const std::filesystem::path& run);

/// Writes alarm.json, the rows of every rank as rank_NNNNN.safetensors and pictures of the first ones; one of
/// the same iteration is replaced. Throws kIo on all ranks. Collective over: the trainers.
void save_alarmed_batch(Job& job, const std::filesystem::path& run, const AlarmedBatch& batch);

}  // namespace tmd::orchestrator
