#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>

#include "comm/fake_communicator.h"
#include "configs/config.h"
#include "method/schedule.h"
#include "orchestrator/operator_cost.h"
#include "sharding/memory_counter.h"
#include "sharding/mesh.h"
#include "workers/batch_buffers.h"
#include "workers/micro_batch.h"
#include "workers/stage_networks.h"
#include "workers/trainer.h"

namespace tmd::orchestrator {

/// What is planned. `config` is completed and borrowed.
struct PlanInput {
  const configs::Config& config;
  int trainers = 1;
  workers::SampleShape sample;       ///< sizes of the data
  at::ScalarType type = at::kFloat;  ///< of compute, as of ShardedNetwork
};

/// What one rank needs for one phase of a run.
struct PhaseNeed {
  sharding::MemoryCounter::Peak peak;
  OperatorCost cost;
  comm::FakeWorld::Traffic traffic;
};

/// A run without values: networks, method, trainer and sharding are those of a run, on LibTorch's meta device
/// and in a world whose other ranks do not exist. So what it takes and does is what the run would, and none
/// of it is written down twice. Nothing but what this object does counts. Thread: one.
class DryRun {
 public:
  /// Rank 0 of the trainers. Throws kConfig for a mesh or a batch that the ranks do not divide, kData when
  /// samples do not fit the model. `counts`: whether what stays on the host counts too.
  DryRun(const PlanInput& input, sharding::MemoryCounter::Counts counts);
  ~DryRun();

  const sharding::MeshShape& mesh() const { return shape_; }
  /// Micro-batches of a rank in an iteration.
  int64_t micro_batches() const;
  /// Parameters whose optimizer a phase steps, of this rank.
  int64_t stepped_elements(method::Phase phase) const;

  /// Makes the networks of `stage`, and drops those before.
  void enter(workers::Stage stage);
  /// An iteration of the present stage that updates what `phase` says, with the draws of iteration
  /// `iteration` of the run.
  PhaseNeed iterate(method::Phase phase, int64_t iteration);
  /// Whether a run samples in the present stage: for previews, or to judge its student.
  bool samples() const;
  /// Samples teacher and, where there is one, student as previews do, and student as a judge does.
  PhaseNeed sample();
  /// What the networks of the present stage take between iterations; a checkpoint is written from them.
  PhaseNeed rest();

 private:
  struct State;
  std::unique_ptr<State> state_;
  sharding::MeshShape shape_;
};

}  // namespace tmd::orchestrator
