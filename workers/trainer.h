#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "data/sample.h"
#include "method/schedule.h"
#include "workers/batch_feed.h"
#include "workers/batch_upload.h"
#include "workers/networks.h"
#include "workers/options.h"
#include "workers/stage_networks.h"

namespace tmd::workers {

/// Where an iteration is in the run.
struct IterationIndex {
  int64_t iteration = 0;  ///< over the whole run, from 1
  int64_t in_stage = 0;   ///< from 1
  int64_t stage_iterations = 0;
};

/// Wall time of an iteration in seconds, by what the rank waited for or did.
struct IterationTime {
  double data = 0;              ///< waiting for the feed
  double gather_exposed = 0;    ///< blocked in parameter gathers
  double compute = 0;           ///< forward and backward without the exposed communication
  double reduce_exposed = 0;    ///< blocked in gradient reductions
  double exchange_exposed = 0;  ///< blocked while tokens and heads move (mesh.sequence, mesh.tensor)
  double optimizer = 0;         ///< norms, clip, AdamW, average
};

/// What an iteration did; equal on all ranks but for `time`, `samples` and `bad`.
struct IterationReport {
  method::Phase phase = method::Phase::kTeacher;
  /// As docs/formats/metrics.md lists them: means over the global batch; norms before clipping.
  std::map<std::string, double> loss, diag, grad_norm, lr;
  std::vector<int64_t> samples;  ///< global sample index of every slot of this rank
  std::vector<BadSample> bad;    ///< broken samples that this rank met
  bool skipped = false;          ///< a gradient was not finite: nothing was updated
  IterationTime time;
};

/// A micro-batch of an iteration, with what the student has made of it.
struct KeptBatch {
  Batch batch;       ///< with tensors of its own
  at::Tensor x_hat;  // [B, C, T, H, W], without gradient; undefined in iterations that sample no student
};

/// Where an iteration is.
enum class TrainerMoment {
  kBatch,    ///< before a micro-batch is taken
  kCompute,  ///< before its forward and backward pass
  kReduce,   ///< before gradients are summed over the replicas
  kUpdate,   ///< before the trained networks change
};

/// Who wants to know where the iterations of a trainer are: checkpoints under way, injected faults.
class TrainerObserver {
 public:
  virtual ~TrainerObserver() = default;
  /// May throw; on one rank alone only what ends the program.
  virtual void reached(TrainerMoment moment, method::Phase phase, int64_t iteration) = 0;
};

/// Runs iterations of the present stage: batch, losses, accumulate, clip, step, average.
class Trainer {
 public:
  /// Noise that the data set's samples were made of, Z of the type of `like`, [samples, C, T, H, W].
  using PairNoise = std::function<at::Tensor(const std::vector<int64_t>& samples, const at::Tensor& like)>;

  /// Keeps references to all but `seed` and `negative_text`: [1, S, E] of the networks' type.
  Trainer(const NetworkPlan& plan, const TrainOptions& train, const StageOptions& stages,
          const sharding::Mesh& mesh, uint64_t seed, StageNetworks& networks, at::Tensor negative_text);

  /// How batches come to the networks' device, if that is no CPU: else they are copied while it waits. Must
  /// outlive the trainer.
  void set_upload(BatchUpload* upload) { upload_ = upload; }
  /// For stage kd, which throws kInternal without.
  void set_pair_noise(PairNoise noise) { pair_noise_ = std::move(noise); }
  /// Told from now on; null: nobody. Must outlive the trainer.
  void set_observer(TrainerObserver* observer) { observer_ = observer; }

  /// What the iteration updates.
  method::Phase phase_of(const IterationIndex& index) const;

  /// One iteration over the whole mesh: teacher_step, stage1 (TMD Sec. 3.1), student_step or critic_step (TMD
  /// App. A.3) on this rank's share of the global batch, which the ranks divide. An update with a gradient
  /// that is not finite is left out on all ranks. Collective over: mesh.world(). Throws what the feed throws,
  /// on every rank alike; kInternal when the feed is at another iteration, kData when latents or text do not
  /// fit the model.
  IterationReport run(const IterationIndex& index, BatchFeed& feed);

  /// Whether `run` keeps copies of its micro-batches from now on; off at first.
  void keep_batches(bool on) { keeps_batches_ = on; }
  /// This rank's micro-batches of the last `run`; empty if they were not to be kept.
  const std::vector<KeptBatch>& kept_batches() const { return kept_; }

  /// The losses that `run` would report, without an update; takes the same micro-batches. Collective over:
  /// mesh.world(). Throws as `run`.
  std::map<std::string, double> evaluate(const IterationIndex& index, BatchFeed& feed);

  /// Per-sample values of a micro-batch: the objective with gradient, and what is reported.
  struct Losses {
    at::Tensor objective;                    // [B]
    std::map<std::string, at::Tensor> loss;  // [B] each
    std::map<std::string, at::Tensor> diag;  // [B] each
    at::Tensor x_hat = {};                   // as in KeptBatch
    at::Tensor sums = {};                    // sample_sums, in student iterations
  };
  /// The part of `run` that computes: forward and backward pass of one micro-batch, whose gradients are added
  /// to the shards of what the phase trains. Reads no value of a tensor on the networks' device. Collective
  /// over: mesh.world(). Throws kData as `run`.
  Losses differentiate(method::Phase phase, const Batch& batch, int64_t iteration);
  /// The networks that a phase trains, and those that it changes: with stage2.ida the fake score follows the
  /// student.
  std::vector<NetworkRole> trained_roles(method::Phase phase) const;
  std::vector<NetworkRole> changed_roles(method::Phase phase) const;

 private:
  Losses losses(method::Phase phase, const Batch& batch, int64_t iteration);
  Losses teacher_losses(const Batch& batch, const method::DrawKey& key);
  Losses stage1_losses(const Batch& batch, const method::DrawKey& key);
  Losses kd_losses(const Batch& batch, const method::DrawKey& key);
  Losses student_losses(const Batch& batch, const method::DrawKey& key);
  Losses critic_losses(const Batch& batch, const method::DrawKey& key);
  method::DropoutShape dropout_shape() const;

  Batch take(BatchFeed& feed, int64_t iteration) const;
  void accumulate(method::Phase phase, const IterationIndex& index, BatchFeed& feed, IterationReport& report);
  void update(method::Phase phase, const IterationIndex& index, IterationReport& report);
  double base_lr(NetworkRole role) const;
  const OptimizerOptions& optimizer_options() const;
  void take_exposed(IterationReport& report);
  void align_fake_score();
  void report_gate(IterationReport& report);
  void reach(TrainerMoment moment, method::Phase phase, const IterationIndex& index) const;

  const NetworkPlan& plan_;
  const TrainOptions& train_;
  const StageOptions& stages_;
  const sharding::Mesh& mesh_;
  uint64_t seed_;
  StageNetworks& networks_;
  at::Tensor negative_text_;  // [1, S, E]
  TrainerObserver* observer_ = nullptr;
  BatchUpload* upload_ = nullptr;
  PairNoise pair_noise_;
  bool keeps_batches_ = false;
  std::vector<KeptBatch> kept_;
};

}  // namespace tmd::workers
