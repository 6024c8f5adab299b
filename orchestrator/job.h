#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"
#include "configs/config.h"
#include "data/data_set.h"
#include "sharding/mesh.h"
#include "workers/batch_feed.h"
#include "workers/device.h"
#include "workers/roles.h"

namespace tmd::orchestrator {

/// What every rank of a run knows before the first iteration: its role, the data set and the mesh. All that
/// can be refused is refused here, before anything large is allocated.
class Job {
 public:
  /// `config` is completed. Collective over: `world`. Throws kConfig and kData, the same on all ranks.
  Job(comm::Communicator& world, const configs::Config& config);

  const configs::Config& config() const { return config_; }
  bool is_trainer() const { return roles_.role == workers::Role::kTrainer; }
  /// Trainers only.
  comm::Communicator& trainers() const { return trainers_->comm(); }
  const sharding::Mesh& mesh() const { return *mesh_; }
  /// Where this trainer's networks are. Trainers only.
  at::Device device() const { return trainers_->device(); }
  /// As workers::DeviceGroup::settle.
  void settle_device() const { trainers_->settle(); }
  /// As workers::DeviceGroup::abort, where there is one. Thread: any.
  void abort_devices() const noexcept {
    if (trainers_) trainers_->abort();
  }
  workers::BatchUpload* upload() const { return trainers_->upload(); }
  data::DataSet& data() { return *data_; }
  int64_t samples() const { return data_->size(); }
  const workers::NetworkPlan& plan() const { return plan_; }
  at::ScalarType type() const;
  /// float32 where type() is bfloat16: of latents, text and what is reduced.
  at::ScalarType wide_type() const { return type() == at::kBFloat16 ? at::kFloat : type(); }
  at::Tensor negative_text() const;           // [1, S, E], on device()
  std::vector<int64_t> latent_shape() const;  // C, T, H, W

  /// Serves the trainers until they close their feeds. Data workers only.
  void serve_data();

  /// The feed of this trainer from `first_iteration` to the end of the run. Its close() is collective with
  /// the data worker that serves it.
  std::unique_ptr<workers::BatchFeed> open_feed(int64_t first_iteration);

  /// Collective over: the world.
  void close();

 private:
  configs::Config config_;
  workers::NetworkPlan plan_;
  workers::Roles roles_;
  std::unique_ptr<workers::DeviceGroup> trainers_;
  std::unique_ptr<data::DataSet> data_;
  std::unique_ptr<sharding::Mesh> mesh_;
};

/// Throws kConfig when `config` names no data, which a run cannot do without.
void require_data(const configs::Config& config);

/// Type of parameters, gradients and compute.
at::ScalarType compute_type(const workers::TrainOptions& options);

/// The mesh of `trainers` ranks. Throws kConfig as sharding::resolve_mesh.
sharding::MeshShape mesh_of(const configs::Config& config, int trainers);

/// What trainer `rank` reads from `first_iteration` to the end of the run. Throws kConfig when the trainers
/// do not divide the global batch.
workers::FeedPlan feed_plan(const configs::Config& config, const sharding::MeshShape& mesh, int64_t data_rank,
                            int64_t first_iteration);

/// Sets the compute threads of this process: `threads`, or, for 0, the cores that it may use, shared evenly
/// with the other trainers that may use them, at least one and at most OMP_NUM_THREADS. Collective over:
/// `trainers`.
void set_compute_threads(comm::Communicator& trainers, int64_t threads);

/// Throws kData unless latents and text of `header` fit the model of `config`; fills what the configuration
/// takes from the data (the perceptron's number of values).
void fit_to_data(configs::Config& config, const data::LatentHeader& header);

}  // namespace tmd::orchestrator
