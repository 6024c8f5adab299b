#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"
#include "sharding/flat_layout.h"

namespace tmd::sharding {

/// Extents of the device mesh, `[mesh]` of the configuration. Tensor is the fastest axis:
/// rank = ((replicate * S + shard) * Q + sequence) * T + tensor.
struct MeshShape {
  int64_t replicate = 1;  ///< copies of the sharded state
  int64_t shard = 0;      ///< ranks that a copy is cut over; 0 = all that are left
  int64_t sequence = 1;   ///< Ulysses degree
  int64_t tensor = 1;     ///< tensor-parallel degree
  /// Masters, moments and averages are cut over the replicas too: weights over the inner group, the optimizer
  /// over all ranks.
  bool two_level = false;

  int64_t ranks() const { return replicate * shard * sequence * tensor; }
  /// Over how many ranks the parameters of a resolved mesh are cut.
  ShardExtents extents() const {
    return {.shards = static_cast<int>(shard * sequence),
            .tensor = static_cast<int>(tensor),
            .pieces = two_level ? static_cast<int>(replicate) : 1};
  }
  /// "replicate 1 x shard 4 x sequence 1 x tensor 1", and ", two levels" when it has them.
  std::string to_string() const;
  bool operator==(const MeshShape&) const = default;
};

/// What a network can be cut by; 1 = not at all.
struct SplitLimits {
  int64_t heads = 1;  ///< attention heads, dealt over sequence x tensor
  int64_t ffn = 1;    ///< hidden features of the feed-forward layers, dealt over tensor
};

/// `wanted` with its 0 filled so that it has exactly `ranks` ranks. Throws kConfig when that is impossible
/// (says the legal values), when an extent is negative or several are 0, or when the network cannot be cut:
/// limits.heads must be a multiple of sequence * tensor, limits.ffn of tensor. With one replica there are no
/// two levels. No communication.
MeshShape resolve_mesh(const MeshShape& wanted, int64_t ranks, const SplitLimits& limits);

/// The groups of this rank in the mesh.
class Mesh {
 public:
  /// Collective over: `trainers`, whose size must be shape.ranks(), else kInternal. `shape` is a resolved
  /// one. Keeps a reference to `trainers`; owns the groups that it splits off.
  Mesh(const MeshShape& shape, comm::Communicator& trainers);

  const MeshShape& shape() const { return shape_; }
  /// All trainers.
  comm::Communicator& world() const { return world_; }
  /// Ranks that together hold one copy of the parameters, shard x sequence x tensor: consecutive ones of
  /// world().
  comm::Communicator& copy_group() const { return *copy_; }
  /// Those of them with the same tensor rank, shard x sequence: they share the same blocks out.
  /// Without tensor parallelism the copy group itself.
  comm::Communicator& shard_group() const { return shard_ ? *shard_ : *copy_; }
  /// Ranks that hold the same shard of different copies.
  comm::Communicator& replicate_group() const { return *replicate_; }
  /// Ranks that work on the same samples, sequence x tensor: consecutive ones of world().
  comm::Communicator& sample_group() const { return *sample_; }
  /// Ranks that have different tokens and equal blocks of parameters.
  comm::Communicator& sequence_group() const { return *sequence_; }
  /// Ranks that have different blocks of parameters and work on the same tokens: consecutive ones.
  comm::Communicator& tensor_group() const { return *tensor_; }

  /// Which of data_ranks() = replicate x shard streams of samples this rank works on.
  int data_rank() const { return world_.rank() / sample_->size(); }
  int data_ranks() const { return world_.size() / sample_->size(); }
  ShardExtents extents() const { return shape_.extents(); }

  /// Closes the groups, not world(). Nothing may use them after it. Collective over: world().
  void close();

 private:
  MeshShape shape_;
  comm::Communicator& world_;
  std::unique_ptr<comm::Communicator> copy_, shard_, replicate_, sample_, sequence_, tensor_;
};

}  // namespace tmd::sharding
