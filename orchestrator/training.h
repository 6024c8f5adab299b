#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "checkpoint/store.h"
#include "orchestrator/alarm.h"
#include "orchestrator/fault.h"
#include "orchestrator/job.h"
#include "orchestrator/judge.h"
#include "orchestrator/metrics_log.h"
#include "orchestrator/previews.h"
#include "orchestrator/run_folder.h"
#include "orchestrator/run_saver.h"
#include "orchestrator/stop_request.h"
#include "orchestrator/train.h"
#include "orchestrator/training_state.h"
#include "sharding/memory_counter.h"
#include "workers/trainer.h"

namespace tmd::orchestrator {

/// A run in progress on one trainer rank: networks, counters, and where they are written. `train` tells the
/// story with its steps.
class Training : private workers::TrainerObserver {
 public:
  /// Keeps references to `job`, `folder`, `request` and `stop`. Collective over: the trainers (Previews).
  Training(Job& job, const RunFolder& folder, const TrainRequest& request, const StopRequest& stop,
           uint64_t experiment_hash);

  /// Takes the newest intact checkpoint, or starts anew, and says which on the console (RESUMED or FRESH).
  void start_or_resume();

  /// Whether all iterations up to the end of the stage are done.
  bool is_finished(workers::Stage stage) const;
  /// Makes the networks of the stage and a preview; does nothing when resumed inside it. Throws as
  /// StageNetworks::enter. Collective over: the trainers.
  void enter(workers::Stage stage);

  /// One iteration of the present stage: train, count, write metrics, save and preview when they are due.
  void iterate();

  /// Why the run ends before its last iteration, if it does; agreed over the trainers after an iteration.
  StopReason stops() const { return stops_; }

  /// Whether iterations are left.
  bool is_early() const { return counters_.iteration < job_.config().total_iterations(); }

  /// Saves the state as it is and writes the verdict of a run that stops early. A failed save throws kIo.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;

  int64_t stage_begin(workers::Stage stage) const;  ///< iterations before it
  workers::IterationIndex next_iteration() const;
  void refuse_to_go_back() const;
  /// trainer_.run, with the peak of the memory. What the host refuses is reported with what was planned.
  workers::IterationReport train_within_memory(const workers::IterationIndex& index);
  std::optional<sharding::MemoryCounter::Peak> planned_peak(method::Phase phase, int64_t iteration);
  void compare_with_plan(method::Phase phase, const workers::IterationIndex& index);
  [[noreturn]] void refuse_memory(method::Phase phase, const workers::IterationIndex& index,
                                  const Error& error);
  void count(const workers::IterationReport& report);
  void quarantine(const workers::IterationReport& report);
  bool may_be_the_last(const workers::IterationIndex& index) const;
  std::optional<AlarmReport> find_alarm(const workers::IterationReport& report);
  [[noreturn]] void end_with(const AlarmReport& alarm, const workers::IterationReport& report,
                             const std::vector<int64_t>& samples);
  void refuse_bad_data() const;
  nlohmann::json judge_if_due(workers::IterationReport& report);
  void record(const workers::IterationReport& report, const std::vector<int64_t>& samples,
              nlohmann::json evaluation, double checkpoint_s, double total_s);
  void reached(workers::TrainerMoment moment, method::Phase phase, int64_t iteration) override;
  void agree_on_saves_and_stops(double iteration_s);
  void save_if_due();
  void compare_with_probe(const workers::IterationReport& report);
  void probe_next_iteration();
  void publish_verdict(ErrorKind kind, const std::string& reason, const std::string& text) const;
  std::vector<int64_t> checkpoints_to_keep(int64_t saved_step);
  double seconds_left() const;

  Job& job_;
  const RunFolder& folder_;
  const TrainRequest& request_;
  const uint64_t experiment_hash_;
  checkpoint::Store store_;
  workers::StageNetworks networks_;
  at::Tensor negative_text_;  // [1, S, E]
  workers::Trainer trainer_;
  Previews previews_;
  Judge judge_;
  Alarm alarm_;
  Fault fault_;
  const StopRequest& stop_;
  RunSaver saver_;
  std::optional<Probe> probe_;  // of the checkpoint that was loaded, until it was compared; rank 0
  RunCounters counters_;
  std::unique_ptr<workers::BatchFeed> feed_;
  std::unique_ptr<MetricsLog> metrics_;  // rank 0
  Clock::time_point loop_start_ = Clock::now();
  Clock::time_point line_begin_ = Clock::now();  // of the time that the next line explains
  int64_t first_iteration_ = 1;
  double slowest_s_ = 0;  // iteration of this start
  StopReason stops_ = StopReason::kNone;
  int64_t tensor_peak_ = 0;                                                   // of the last iteration, bytes
  std::map<std::pair<workers::Stage, method::Phase>, int> phase_iterations_;  // since this start
};

}  // namespace tmd::orchestrator
