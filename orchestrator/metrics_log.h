#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "workers/trainer.h"

namespace tmd::orchestrator {

/// One finished iteration as metrics.jsonl and the console show it.
struct IterationRecord {
  int64_t iteration = 0, total_iterations = 0;
  std::string stage;
  int64_t student_updates = 0;
  std::vector<int64_t> samples;  ///< of all ranks, in slot order
  workers::IterationReport report;
  double checkpoint_s = 0;         ///< time the loop was held by a save
  double total_s = 0;              ///< wall time of the iteration
  nlohmann::json evaluation = {};  ///< how the state was judged (Judge::judge); null: it was not
  int64_t tensor_peak = 0;         ///< most bytes that tensors of this rank took while it was trained
};

/// metrics.jsonl: one JSON object per iteration (docs/formats/metrics.md). Rank 0 only.
class MetricsLog {
 public:
  /// Cuts what lies beyond `last_iteration` (a run that was killed after its last checkpoint repeats those
  /// iterations) and opens the file to write on. Throws kIo.
  MetricsLog(const std::filesystem::path& path, int64_t last_iteration);

  /// Writes one line. A file system that refuses (a full disk) does not end a run: the lines are kept in
  /// memory until it takes them again, and a warning says so once.
  void write(const IterationRecord& record);

  /// Brings the lines to the disk as far as it takes them; a file system that refuses is `write`'s to report.
  void sync();

  /// Writes what was kept back; throws kIo when that is still refused.
  void close();

 private:
  void write_kept();

  File file_;
  uint64_t written_bytes_ = 0;
  std::string kept_;  // lines that are not in the file yet
  bool is_refused_ = false;
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
