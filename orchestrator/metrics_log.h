#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "workers/trainer.h"

namespace tmd::orchestrator {

/// One finished iteration as metrics.jsonl and the console show it.
struct IterationRecord {
  int64_t iteration = 0, total_iterations = 0;
  std::string stage;
  int64_t student_updates = 0;
  std::vector<int64_t> samples;  ///< of all ranks, in slot order
  workers::IterationReport report;
  double checkpoint_s = 0;       ///< time the loop was held by a save
  double total_s = 0;            ///< wall time of the iteration
};

/// metrics.jsonl: one JSON object per iteration (docs/formats/metrics.md). Rank 0 only.
class MetricsLog {
 public:
  /// Cuts what lies beyond `last_iteration` (a run that was killed after its last checkpoint repeats those iterations)
  /// and opens the file for appending. Throws kIo.
  MetricsLog(const std::filesystem::path& path, int64_t last_iteration);

  /// Writes one line and flushes it. Throws kIo.
  void write(const IterationRecord& record);

 private:
  std::filesystem::path path_;
  std::ofstream stream_;
};

/// Resident and peak memory of this process in bytes.
struct MemoryUse {
  int64_t resident = 0, peak = 0;
};
MemoryUse memory_use();

/// "step 120/400 critic fake_score=0.113 ... 0.84s (data 1% gather 3% compute 88% ...) eta 4m10s"
std::string console_line(const IterationRecord& record, double seconds_left);

/// "4m10s"
std::string duration_text(double seconds);

}  // namespace tmd::orchestrator
