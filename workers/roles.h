#pragma once

#include <memory>
#include <vector>

#include "comm/communicator.h"

namespace tmd::workers {

enum class Role { kTrainer, kDataWorker };

/// Which ranks of the world do what: the first `trainers` ranks train, the last `data_workers` ranks read.
/// Worker w = 0, 1, ... serves the trainers r with r % data_workers == w.
struct RoleLayout {
  int trainers = 1;
  int data_workers = 0;

  Role role_of(int rank) const { return rank < trainers ? Role::kTrainer : Role::kDataWorker; }
  /// World rank of the data worker that serves `trainer`. Throws kInternal when nobody does.
  int worker_of(int trainer) const;
  /// World ranks of the trainers that the data worker of world rank `rank` serves, ascending. Throws
  /// kInternal when that is no data worker.
  std::vector<int> trainers_of(int rank) const;
};

/// Throws kConfig for a negative count, when no rank would train, or when a data worker would serve nobody.
RoleLayout lay_out_roles(int world_size, int data_workers);

/// This rank's role and its communicators.
struct Roles {
  RoleLayout layout;
  Role role = Role::kTrainer;
  std::unique_ptr<comm::Communicator> peers;  ///< ranks of this role; of trainers, rank = world rank
  std::unique_ptr<comm::Communicator> data;   ///< the whole world, for batches; rank = world rank

  /// Closes both communicators; `peers` may have been moved away. Collective over: the world.
  void close();
};

/// Collective over: world. Throws as lay_out_roles does, on all ranks alike.
Roles assign_roles(comm::Communicator& world, int data_workers);

}  // namespace tmd::workers
