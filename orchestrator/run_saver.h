#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/background_save.h"
#include "checkpoint/store.h"
#include "orchestrator/fault.h"
#include "orchestrator/job.h"
#include "orchestrator/probe.h"
#include "orchestrator/training_state.h"

namespace tmd::orchestrator {

/// Writes the checkpoints of a run, one at a time, while training goes on.
///
/// The networks' memory is written as it lies there: whoever is about to change a network says so first
/// (before_change), and what is not written yet of that network is copied. Collective functions: over the
/// trainers.
class RunSaver {
 public:
  /// Who else has to do with checkpoints. Called on rank 0, on a thread of its own.
  struct Keeper {
    /// The checkpoint of `step` is about to get its name; what else belongs there comes into its
    /// checkpoint::partial_folder. May throw kIo, and the checkpoint then fails.
    std::function<void(int64_t step)> before_commit;
    /// It is complete, and older ones are about to be removed; returns those to keep besides what
    /// `[checkpoint]` says.
    std::function<std::vector<int64_t>(int64_t step)> to_keep;
  };

  /// Keeps references to all of them.
  RunSaver(Job& job, const checkpoint::Store& store, workers::StageNetworks& networks, Fault& fault,
           uint64_t experiment_hash, Keeper keeper);

  /// Looks whether the file system has the space that the next checkpoints need: room for two, less those
  /// that are there; one is always needed. The first call throws kIo when it has not, later ones, when
  /// iterations may be lost with the run, warn. Collective.
  void check_space();

  /// Begins a checkpoint of what `counters` say; `changing` are the networks that the next iteration updates.
  /// When one is still being written, a warning takes its place; what fails costs a warning, and older
  /// checkpoints are as before. Collective.
  void begin(const RunCounters& counters, const std::vector<workers::NetworkRole>& changing);
  /// The same, and waits for it, for the one before too. Throws kIo. Collective.
  void save_now(const RunCounters& counters);
  /// Waits for the one that is under way, if any. Collective.
  void wait();

  bool is_busy() const { return save_ != nullptr && !save_->is_idle(); }
  /// Goes on with what is under way. To be called when no rank is_busy. Collective.
  void advance();

  /// The parameters, moments or average of this network change after the call. No communication.
  void before_change(workers::NetworkRole role);
  void before_change_of_all();

  /// The losses of the iteration after a checkpoint, for its probe: written when the checkpoint is complete,
  /// if one is under way or was the last. Failures cost a warning. Rank 0 writes; no communication.
  void note_next_losses(int64_t iteration, const std::map<std::string, double>& loss);

  /// Step of the newest checkpoint that is complete; -1 when there is none. Set by a resume.
  int64_t last_saved() const { return last_saved_; }
  void set_last_saved(int64_t step) { last_saved_ = step; }
  /// Seconds that a checkpoint takes from its begin to its end: the last one, or, before the first one of
  /// this start, what its bytes take on a slow file system.
  double duration_s() const { return duration_s_; }
  /// Seconds since the last call that training was held up.
  double take_held_s();

 private:
  using Clock = std::chrono::steady_clock;

  void start(const RunCounters& counters, const std::vector<workers::NetworkRole>& changing);
  void require_space(double bytes) const;
  void advance_once();
  void settle();
  template <class Action>
  void warn_of_failure(int64_t step, Action action);
  void prune(int64_t step) const;
  void write_probe();

  Job& job_;
  const checkpoint::Store& store_;
  workers::StageNetworks& networks_;
  Fault& fault_;
  const uint64_t experiment_hash_;
  const Keeper keeper_;
  std::unique_ptr<checkpoint::BackgroundSave> save_;
  Clock::time_point begun_;
  bool has_checked_space_ = false;
  int64_t last_saved_ = -1;
  std::optional<Probe> probe_;  // of the checkpoint that is under way, or of the last one
  double duration_s_ = 0, held_s_ = 0;
};

}  // namespace tmd::orchestrator
