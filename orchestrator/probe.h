#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "orchestrator/job.h"

namespace tmd::orchestrator {

/// What the first iteration after a checkpoint must find: the losses of a batch that the seed fixes, computed
/// with the weights of the checkpoint. Stands in its folder as probe.json (checkpoint/FORMAT.md), written
/// when that iteration has run, or, for a run that stops, when its losses were computed without an update.
struct Probe {
  int64_t iteration = 0;
  std::map<std::string, double> loss;
  uint64_t experiment_hash = 0;
  int64_t samples = 0;        ///< of the data set: which of them a batch has depends on it
  std::string mesh, machine;  ///< where bits are expected to be the same: code, processor, threads

  /// Of this run.
  static Probe of(const Job& job, uint64_t experiment_hash, int64_t iteration,
                  const std::map<std::string, double>& loss);

  /// Throws kIo.
  void write(const std::filesystem::path& checkpoint) const;
  /// Nothing when there is none, or, with a warning, when it cannot be read.
  static std::optional<Probe> read(const std::filesystem::path& checkpoint);

  /// How `found` agrees with this one: one line. Throws kIo when it does not: when a loss differs by more
  /// than rounding explains in `type`. Other bits on the same mesh and machine are a reason to warn; then
  /// `warns` is set.
  std::string compare(const Probe& found, at::ScalarType type, bool& warns) const;
};

}  // namespace tmd::orchestrator
