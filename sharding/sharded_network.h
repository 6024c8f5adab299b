#pragma once

#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "sharding/flat_layout.h"
#include "sharding/mesh.h"
#include "sharding/param_spec.h"

namespace tmd::sharding {

/// Buffers that all networks of a rank share, because one unit is gathered at a time. They grow to the
/// largest unit that is registered and stay, so that the steady state allocates nothing. Undefined in shard
/// groups of one rank, which need none.
class GatherBuffers {
 public:
  /// Throws kInternal when `type` differs from that of an earlier call.
  void reserve(int64_t elements, int64_t shard_elements, at::ScalarType type);
  const at::Tensor& gathered() const { return gathered_; }              ///< [elements of the largest unit]
  const at::Tensor& gradient() const { return gradient_; }              ///< same size, input of the reduction
  const at::Tensor& gradient_shard() const { return gradient_shard_; }  ///< [elements of the largest shard]

  /// Held while a unit is gathered. Throws kInternal when one is already, of whichever network.
  void take();
  void give_back() { is_taken_ = false; }

 private:
  at::Tensor gathered_, gradient_, gradient_shard_;
  bool is_taken_ = false;
};

/// State of one unit on this rank.
struct UnitShard {
  at::Tensor master;                   ///< [shard_elements], the parameters
  at::Tensor gradient;                 ///< [shard_elements], summed over the group; undefined if frozen
  std::vector<ShardSegment> segments;  ///< what lies where in both
};

/// A network whose parameters are cut over the mesh, unit by unit.
///
/// Parameters are read through `gather`, gradients come back through `reduce`; both are called by run_unit.
/// A group of one rank neither copies nor communicates: the gathered parameters are views of the shard.
/// Thread: one at a time, also for several networks on the same buffers or mesh.
class ShardedNetwork {
 public:
  /// `trainable`: whether gradient shards are kept. `type`: element type of parameters, gradients and
  /// compute, float32 or float64. Parameters and gradients start at zero (see initialise, load_weights).
  /// Keeps references to `mesh` and `buffers`, which must outlive it. Throws kInternal when `buffers` has
  /// another type. No communication.
  ShardedNetwork(std::string name, std::vector<UnitSpec> units, const Mesh& mesh, at::ScalarType type,
                 bool trainable, GatherBuffers& buffers);

  const std::string& name() const { return name_; }
  at::ScalarType type() const { return type_; }
  bool trainable() const { return trainable_; }
  const Mesh& mesh() const { return mesh_; }
  int units() const { return static_cast<int>(specs_.size()); }
  const UnitSpec& spec(int unit) const { return specs_[unit]; }
  const FlatLayout& layout(int unit) const { return layouts_[unit]; }
  UnitShard& shard(int unit) { return shards_[unit]; }
  const UnitShard& shard(int unit) const { return shards_[unit]; }
  /// Index of the unit called `name`. Throws kInternal when there is none.
  int unit(const std::string& name) const;

  /// Tensors of a unit's parameters in the order and shapes of its spec, valid until this
  /// object is destroyed. Writing to them is not allowed.
  class Gathered {
   public:
    Gathered(ShardedNetwork& network, std::vector<at::Tensor> tensors)
        : params(std::move(tensors)), network_(&network) {}
    Gathered(const Gathered&) = delete;
    Gathered& operator=(const Gathered&) = delete;
    ~Gathered() { network_->buffers_.give_back(); }
    const std::vector<at::Tensor> params;

   private:
    ShardedNetwork* network_;
  };

  /// Throws kInternal while a unit of any network that shares the buffers is gathered.
  /// Collective over: the shard group.
  Gathered gather(int unit);

  /// Adds the sum of `gradients` over the shard group to the unit's gradient shard. `gradients`: one for each
  /// parameter, in order and shape; undefined entries count as zero. Throws kInternal unless trainable.
  /// Collective over: the shard group.
  void reduce(int unit, const std::vector<at::Tensor>& gradients);

  /// Sums the gradient shards over the replicas. Once per step, before clip and optimizer; trainable networks
  /// only. Collective over: the replicate group.
  void reduce_over_replicas();

  /// Trainable networks only.
  void zero_gradients();

  /// Whole tensor of one parameter in its shape, a copy, equal on all ranks. For tests, exports and
  /// diagnostics: it gathers a unit. Throws kInternal for an unknown name, or while a Gathered lives.
  /// Collective over: the shard group.
  at::Tensor full_parameter(const std::string& name);
  /// The same of its gradient, summed over the shard group; trainable networks only.
  at::Tensor full_gradient(const std::string& name);

  /// Seconds that calls have blocked in communication since the last call of this function.
  struct ExposedTime {
    double gather_s = 0;
    double reduce_s = 0;
  };
  ExposedTime take_exposed_time();

 private:
  std::vector<at::Tensor> views(const at::Tensor& flat, int unit) const;
  at::Tensor gather_flat(const at::Tensor& shard, int unit);
  at::Tensor full_of(const std::string& name, bool gradient);

  std::string name_;
  std::vector<UnitSpec> specs_;
  const Mesh& mesh_;
  at::ScalarType type_;
  bool trainable_;
  GatherBuffers& buffers_;
  std::vector<FlatLayout> layouts_;
  std::vector<UnitShard> shards_;
  ExposedTime exposed_;
};

}  // namespace tmd::sharding
