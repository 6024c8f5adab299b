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
/// largest unit that is registered and stay, so that the steady state allocates nothing.
class GatherBuffers {
 public:
  /// Bytes that a network's largest unit needs.
  struct Sizes {
    int64_t gathered = 0;  ///< whole unit in the types of compute, or in full precision
    int64_t staging = 0;   ///< shard of a unit on its way to another type
    int64_t gradient = 0;  ///< whole unit, input of the reduction
    int64_t gradient_shard = 0;
  };
  /// `device`: where they are, and where the networks that use them keep their shards.
  explicit GatherBuffers(at::Device device = at::kCPU) : device_(device) {}
  at::Device device() const { return device_; }
  void reserve(const Sizes& sizes);
  // Bytes (uint8), to be viewed in the type of the unit at hand.
  const at::Tensor& gathered() const { return gathered_; }
  const at::Tensor& staging() const { return staging_; }
  const at::Tensor& gradient() const { return gradient_; }
  const at::Tensor& gradient_shard() const { return gradient_shard_; }

  /// Held while a unit is gathered. Throws kInternal when one is already, of whichever network.
  void take();
  void give_back() { is_taken_ = false; }

 private:
  at::Device device_;
  at::Tensor gathered_, staging_, gradient_, gradient_shard_;
  bool is_taken_ = false;
};

/// State of one unit on this rank.
struct UnitShard {
  at::Tensor master;                   ///< [shard_elements], the parameters in full precision; undefined for
                                       ///< frozen networks in bfloat16
  at::Tensor gradient;                 ///< [shard_elements], summed over the group; undefined if frozen
  std::vector<at::Tensor> parts;       ///< the shard of each part as it is gathered: views of `master`, or
                                       ///< all there is; empty where `master` is cast on the way
  std::vector<ShardSegment> segments;  ///< what lies where

  /// The place of a segment of this unit: a view of [slice.elements()] in the type that is kept.
  at::Tensor place(const ShardSegment& segment, const FlatLayout& layout) const;
};

/// A network whose parameters are cut over the mesh, unit by unit.
///
/// Parameters are read through `gather`, gradients come back through `reduce`; both are called by run_unit.
/// A group of one rank does not communicate, and does not copy unless it has to cast: the gathered parameters
/// are views of the shard.
///
/// In bfloat16, parameters whose spec says `wide` stay in float32; a trainable network keeps all of them, and
/// their gradients, in float32 and casts what it gathers; a frozen one keeps what it computes with.
/// Thread: one at a time, also for several networks on the same buffers or mesh.
class ShardedNetwork {
 public:
  /// `trainable`: whether gradient shards are kept. `type`: of compute: float32, float64 or bfloat16.
  /// Parameters are undefined until they are filled (initialise, load_weights, a checkpoint), padding and
  /// gradients zero. Keeps references to `mesh` and `buffers`, which must outlive it. No communication.
  ShardedNetwork(std::string name, std::vector<UnitSpec> units, const Mesh& mesh, at::ScalarType type,
                 bool trainable, GatherBuffers& buffers);

  const std::string& name() const { return name_; }
  at::ScalarType type() const { return type_; }
  /// float32 for a network in bfloat16, else type(): of masters, gradients and wide parameters, and of the
  /// latents, text and time waves that models take.
  at::ScalarType wide_type() const { return type_ == at::kBFloat16 ? at::kFloat : type_; }
  bool trainable() const { return trainable_; }
  at::Device device() const { return buffers_.device(); }
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
  /// The same in full precision: masters where there are any. For exports and diagnostics.
  Gathered gather_master(int unit);

  /// Adds the sum of `gradients` over the shard group to the unit's gradient shard. `gradients`: one for each
  /// parameter, in order and shape; undefined entries count as zero. Throws kInternal unless trainable.
  /// Collective over: the shard group.
  void reduce(int unit, const std::vector<at::Tensor>& gradients);

  /// Sums the gradient shards over the replicas. Once per step, before clip and optimizer; trainable networks
  /// only. Collective over: the replicate group.
  void reduce_over_replicas();

  /// Trainable networks only.
  void zero_gradients();

  /// Whole tensor of one parameter in its shape and in full precision, a copy, equal on all ranks. For tests
  /// and diagnostics: it gathers a unit. Throws kInternal for an unknown name, or while a Gathered lives.
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
  at::ScalarType part_type(const FlatPart& part) const { return part.wide ? at::kFloat : type_; }
  void add_unit(const UnitSpec& unit);
  void reserve_buffers(const FlatLayout& layout, int shards, bool casts);
  std::vector<at::Tensor> views(const std::vector<at::Tensor>& parts, int unit) const;
  std::vector<at::Tensor> gather_parts(const std::vector<at::Tensor>& shards, int unit);
  std::vector<at::Tensor> cast_parts(int unit);
  std::vector<at::Tensor> split(const at::Tensor& shard, int unit) const;
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
