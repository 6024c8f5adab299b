#pragma once

#include <map>
#include <memory>
#include <string>

#include "sharding/adamw.h"
#include "sharding/sharded_network.h"
#include "workers/networks.h"
#include "workers/options.h"

namespace tmd::workers {

/// In their order.
enum class Stage { kTeacher, kStage1, kKd, kStage2 };
std::string name(Stage stage);

enum class NetworkRole { kTeacher, kStudent, kFake, kDiscriminator };
std::string name(NetworkRole role);

/// A network of the run with what trains it. Frozen networks have no gradient, no optimizer and no average.
struct TrainedNetwork {
  std::unique_ptr<sharding::ShardedNetwork> network;
  std::unique_ptr<sharding::AdamW> optimizer;
  std::unique_ptr<sharding::ExponentialAverage> average;
};

/// The networks of the present stage, and how one stage's networks become those of the next.
///
///   teacher stage: teacher (trained)
///   stage 1, kd:   teacher (frozen), student (trained)
///   stage 2:       teacher (frozen), student, fake score and, with a GAN term, discriminator (trained)
class StageNetworks {
 public:
  /// Keeps references to `options` and `mesh`. `type`: of compute (ShardedNetwork). `seed`: of what starts
  /// from random numbers. `keep_blocks`: last blocks of each trained network that keep their activations.
  /// `device`: where the networks are. Makes no network and communicates nothing.
  StageNetworks(const NetworkPlan& plan, const StageOptions& options, const sharding::Mesh& mesh,
                at::ScalarType type, uint64_t seed, int64_t keep_blocks = 0, at::Device device = at::kCPU);

  // References stay valid until make_teacher, enter or allocate. Roles that are not there: std::out_of_range.
  bool has(NetworkRole role) const { return networks_.contains(role); }
  TrainedNetwork& at(NetworkRole role) { return networks_.at(role); }
  sharding::ShardedNetwork& network(NetworkRole role) { return *networks_.at(role).network; }
  std::map<NetworkRole, TrainedNetwork>& all() { return networks_; }
  const std::map<NetworkRole, TrainedNetwork>& all() const { return networks_; }
  Stage stage() const { return stage_; }
  /// Of all networks.
  sharding::GatherBuffers& buffers() { return *buffers_; }

  /// The teacher of a run, before its first stage: random, or from `[model] weights`, frozen. No
  /// communication, so ranks may fail alone: throws what open_wan_weights and load_weights throw (kIo,
  /// kData), and kConfig when the files say another number of heads or another epsilon.
  void make_teacher();

  /// Makes the networks that `stage` needs out of those of the stages before, of which the teacher must be
  /// there; new ones start from the teacher, the discriminator and what the student has beyond the teacher
  /// from the seed. Optimizers and averages start anew. The teacher stage's average, if any, becomes the
  /// teacher; later stages go on with the student itself. Throws kConfig for a way back: from stage 2, or
  /// to the teacher stage when there is a student. Collective over: the copy group; on two levels,
  /// the whole mesh.
  void enter(Stage stage);

  /// The networks of `stage` with parameters of zero, for a checkpoint to fill. Earlier networks are dropped.
  /// No communication.
  void allocate(Stage stage);

 private:
  void keep_last_blocks(sharding::ShardedNetwork& network) const;
  TrainedNetwork make(NetworkRole role, bool trained, double average_decay) const;
  void add(NetworkRole role, bool trained, double average_decay);
  void load_teacher();
  void freeze_teacher();
  void start_from_teacher(NetworkRole role);
  std::vector<sharding::UnitSpec> units(NetworkRole role) const;
  const OptimizerOptions& optimizer_of(Stage stage) const;

  NetworkPlan plan_;
  const StageOptions& options_;
  const sharding::Mesh& mesh_;
  at::ScalarType type_;
  uint64_t seed_;
  int64_t keep_blocks_;
  std::unique_ptr<sharding::GatherBuffers> buffers_;
  std::unique_ptr<sharding::GradientArena> arena_;
  std::map<NetworkRole, TrainedNetwork> networks_;
  Stage stage_ = Stage::kTeacher;
};

}  // namespace tmd::workers
