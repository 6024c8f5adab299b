#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "comm/communicator.h"
#include "configs/config.h"
#include "orchestrator/run_lock.h"

namespace tmd::orchestrator {

/// The folder of a run: config.ini, env.json, log/rank_*.txt, metrics.jsonl, samples/, checkpoints/, eval/;
/// journal/ (what ranks do now), in_use (RunLock), verdict.json (why the last start ended early), faults/;
/// judge/ and alarms/ (docs/judging.md).
class RunFolder {
 public:
  /// Opens or makes `path` for the experiment of `table`. A folder that holds another experiment is refused
  /// with the keys that differ (kConfig), unless each of them is in `allowed_changes`; one that is no run
  /// folder, and one that another job is using, is refused too (kConfig). Takes away the verdict of an
  /// earlier start, makes the folders inside and opens this rank's log file; errors are the same on all
  /// ranks, kIo when something cannot be made. Collective over: `world`.
  RunFolder(comm::Communicator& world, std::filesystem::path path, const configs::OptionTable& table,
            const std::vector<std::string>& allowed_changes);

  /// Writes the resolved config.ini and env.json, from one rank. Called when the run has its networks: a
  /// start that was refused leaves the folder as it was. Throws kIo.
  void publish_config() const;

  /// Writes why the program ends with the code of `kind`: for the script that decides whether to start it
  /// again. `reason` is one word. The first verdict of a start stays: who comes later may have seen its
  /// effects only. Throws kIo. Thread: any.
  void publish_verdict(ErrorKind kind, const std::string& reason, const std::string& text,
                       const std::vector<int>& late_ranks = {}) const;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  std::filesystem::path samples() const { return path_ / "samples"; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path journals() const { return path_ / "journal"; }
  std::filesystem::path verdict() const { return path_ / "verdict.json"; }

 private:
  void prepare(const configs::OptionTable& table, const std::vector<std::string>& allowed_changes);
  void refuse_foreign_folder() const;

  std::filesystem::path path_;
  std::string resolved_config_;
  int ranks_;
  std::optional<RunLock> lock_;  // of rank 0
};

/// Versions, host, rank count: what one must know to compare two runs.
nlohmann::json environment(int ranks);

/// "0.1.0"
std::string code_version();

}  // namespace tmd::orchestrator
