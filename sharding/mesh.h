#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"

namespace tmd::sharding {

/// Extents of the device mesh, `[mesh]` of the configuration. Tensor is the fastest axis:
/// rank = ((replicate * S + shard) * Q + sequence) * T + tensor.
struct MeshShape {
  int64_t replicate = 1;  ///< copies of the sharded state
  int64_t shard = 0;      ///< ranks that a copy is cut over; 0 = all that are left
  int64_t sequence = 1;   ///< Ulysses degree
  int64_t tensor = 1;     ///< tensor-parallel degree

  int64_t ranks() const { return replicate * shard * sequence * tensor; }
  /// "replicate 1 x shard 4 x sequence 1 x tensor 1"
  std::string to_string() const;
  bool operator==(const MeshShape&) const = default;
};

/// `wanted` with its 0 filled so that it has exactly `ranks` ranks. Throws kConfig when that is impossible
/// (says the legal values), when an extent is negative or several are 0, when `heads` (attention heads) is
/// not a multiple of sequence * tensor, or when an axis other than replicate and shard is larger than 1: this
/// version runs those two. No communication.
MeshShape resolve_mesh(const MeshShape& wanted, int64_t ranks, int64_t heads);

/// The groups of this rank in the mesh.
class Mesh {
 public:
  /// Collective over: `trainers`, whose size must be shape.ranks(), else kInternal. `shape` is a resolved
  /// one. Keeps a reference to `trainers`; owns the groups that it splits off.
  Mesh(const MeshShape& shape, comm::Communicator& trainers);

  const MeshShape& shape() const { return shape_; }
  /// All trainers.
  comm::Communicator& world() const { return world_; }
  /// Ranks that together hold one copy of the parameters: consecutive ones of world().
  comm::Communicator& shard_group() const { return *shard_; }
  /// Ranks that hold the same shard of different copies.
  comm::Communicator& replicate_group() const { return *replicate_; }

  /// Closes the groups, not world(). Nothing may use them after it. Collective over: world().
  void close();

 private:
  MeshShape shape_;
  comm::Communicator& world_;
  std::unique_ptr<comm::Communicator> shard_;
  std::unique_ptr<comm::Communicator> replicate_;
};

}  // namespace tmd::sharding
