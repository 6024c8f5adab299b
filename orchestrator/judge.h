#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "orchestrator/best_checkpoint.h"
#include "orchestrator/evaluator.h"
#include "orchestrator/job.h"
#include "orchestrator/sampling.h"
#include "workers/stage_networks.h"
#include "workers/trainer.h"

namespace tmd::orchestrator {

/// `[judge]`: looks at the weights every so many iterations, judges checkpoints by samples, and knows which
/// is best. Collective functions: over the trainers.
class Judge {
 public:
  /// `folder` is RUN/judge, for what a resume needs. Keeps references to `job` and `store`. Reads the prompts
  /// and reference samples of the evaluator, if checkpoints are to be judged. Throws, on all trainers, as
  /// Evaluator::make, and kConfig for a metric that the evaluator does not have. Collective.
  Judge(Job& job, const checkpoint::Store& store, std::filesystem::path folder);

  /// Whether `measure` has something to do after the iteration.
  bool is_due(int64_t iteration) const;

  /// Remembers weights of the network that the stage trains, to tell how many of them move. Collective.
  void at_stage_begin(workers::StageNetworks& networks);
  /// Takes up what starts before this one have left; `step` is the checkpoint that was loaded. What cannot be
  /// read or mended costs a warning. No communication.
  void at_resume(const workers::StageNetworks& networks, int64_t step);

  /// Adds to `diag` of an iteration that is_due (on rank 0 all, elsewhere some): weights_moved, and the
  /// sensitivity of the flow head on the first of `kept`. Collective.
  void measure(workers::StageNetworks& networks, const std::vector<workers::KeptBatch>& kept,
               std::map<std::string, double>& diag);

  /// Whether `judge` has something to do: the iteration's state is going to be saved, and is_due.
  bool judges(const workers::StageNetworks& networks, int64_t iteration) const;
  /// Samples the student, or its average where there is one, and measures it: for metrics.jsonl on rank 0,
  /// null elsewhere. The noted score counts once the checkpoint is complete. Swaps weights and average for a
  /// while. Collective.
  nlohmann::json judge(workers::StageNetworks& networks, int64_t iteration);

  /// A checkpoint is about to get its name: puts its score there. Then it is complete: leads BEST to it, if
  /// it is the best one, and returns those to keep: the best one, and what BEST leads to, also when this
  /// start judges nothing. What cannot be written costs a warning. Rank 0; any thread.
  void before_commit(int64_t step) const;
  std::vector<int64_t> saved(int64_t step);

 private:
  std::filesystem::path weights_file(workers::Stage stage) const;
  at::Tensor sample(workers::StageNetworks& networks, bool average);

  Job& job_;
  const checkpoint::Store& store_;
  const std::filesystem::path folder_;
  std::unique_ptr<Evaluator> evaluator_;  // rank 0, as what follows
  evaluation::Metric metric_;
  std::unique_ptr<BestCheckpoint> best_;  // null unless it is kept
  SampleRequest request_;
  at::Tensor begin_weights_;  // sharding::sample_weights at the begin of the stage; rank 0
};

/// Whether checkpoints are judged by samples.
bool judges_by_samples(const configs::JudgeOptions& options);

/// The metric of the evaluator that `name` names: "distance" (Score::distance), or one of metrics() that is
/// better in one direction and needs no samples of the teacher, which are not made while a run trains. Throws
/// kConfig, with those there are, for another name.
evaluation::Metric metric_named(const Evaluator& evaluator, const std::string& name);
/// Its value; nothing where the score has none.
std::optional<double> value_of(const Score& score, const evaluation::Metric& metric);

}  // namespace tmd::orchestrator
