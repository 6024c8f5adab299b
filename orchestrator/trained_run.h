#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "orchestrator/job.h"
#include "orchestrator/load_config.h"
#include "orchestrator/training_state.h"
#include "workers/stage_networks.h"

namespace tmd::orchestrator {

/// Whether `folder` is a run folder or one of its checkpoints, as opposed to weights files.
bool is_run(const std::filesystem::path& folder);

/// The networks of a run as one of its checkpoints has them, for sampling and evaluation. Every rank of
/// `trainers` takes part, on the mesh of the configuration if it fits their number, else as so many shards.
class TrainedRun {
 public:
  /// `folder`: a run folder (its newest intact checkpoint is taken), one of its checkpoints/step_*, or
  /// checkpoints/BEST.
  /// `words`: options that replace those of the run, e.g. "--sampler.steps=20". Throws kData when there is no
  /// run folder or no checkpoint, kUsage for a word that is no option, and as Job,
  /// checkpoint::Store::load_newest and load_checkpoint. Collective over: `trainers`.
  TrainedRun(comm::Communicator& trainers, const std::filesystem::path& folder,
             std::vector<std::string> words = {});

  const configs::Config& config() const { return loaded_->config; }
  Job& job() { return *job_; }
  sharding::ShardedNetwork& teacher() { return networks_->network(workers::NetworkRole::kTeacher); }
  /// Null when the run has trained a teacher only.
  sharding::ShardedNetwork* student();
  workers::StageNetworks& networks() { return *networks_; }
  int64_t step() const { return step_; }
  const std::filesystem::path& run_folder() const { return run_folder_; }

  /// From now on student() (or teacher(), in a teacher stage) shows the average of the weights; a second call
  /// takes that back. Throws kConfig when the run keeps none. Collective over: the trainers.
  void use_average();

  /// Collective over: the trainers.
  void close();

 private:
  std::unique_ptr<LoadedConfig> loaded_;
  std::unique_ptr<Job> job_;
  std::unique_ptr<workers::StageNetworks> networks_;
  std::filesystem::path run_folder_;
  int64_t step_ = 0;
};

}  // namespace tmd::orchestrator
