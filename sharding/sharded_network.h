#pragma once

#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "sharding/flat_layout.h"
#include "sharding/gather_buffers.h"
#include "sharding/mesh.h"
#include "sharding/param_spec.h"

namespace tmd::sharding {

/// State of one unit on this rank.
struct UnitShard {
  at::Tensor master;              ///< the parameters in full precision; undefined for frozen networks in
                                  ///< bfloat16. [shard_elements], or [piece_elements] if trained on two
                                  ///< levels
  at::Tensor gradient;            ///< [shard_elements], summed over the group; undefined if frozen
  bool has_gradient = false;      ///< else the content of `gradient` is nobody's and counts as zero
  at::Tensor piece_gradient;      ///< as `master`, what the optimizer takes: `gradient` itself, or this
                                  ///< rank's piece of its sum over the replicas
  std::vector<at::Tensor> parts;  ///< the shard of each part as it is gathered: views of `master`, or
                                  ///< what publish() fills, or all there is; empty where `master` is cast
                                  ///< on the way
  std::vector<ShardSegment> segments;  ///< what lies where in `master`, or in the parts if there is none

  /// The place of a segment of this unit: a view of [slice.elements()] in the type that is kept.
  at::Tensor place(const ShardSegment& segment, const FlatLayout& layout) const;
};

/// What a unit of a network takes in the buffers; arguments as of ShardedNetwork. `communicates`: a copy of
/// the parameters is cut over several ranks.
GatherBuffers::Sizes buffer_sizes(const FlatLayout& layout, at::ScalarType type, bool trainable,
                                  bool communicates);

/// A network whose parameters are cut over the mesh, unit by unit.
///
/// Parameters are read through `gather`, gradients come back through a GradientSink; run_unit does both.
/// A group of one rank does not communicate, and does not copy unless it has to cast: the gathered parameters
/// are views of the shard.
///
/// In bfloat16, parameters whose spec says `wide` stay in float32; a trainable network keeps all of them, and
/// their gradients, in float32 and casts what it gathers; a frozen one keeps what it computes with.
///
/// On a mesh of two levels a trained network keeps a shard of the parameters in the types of compute, which
/// is gathered within the copy group, and of the masters, and of all that the optimizer keeps, one piece of
/// that shard. Whoever writes to masters calls publish(). Thread: one at a time, also for several networks on
/// the same buffers or mesh.
class ShardedNetwork {
 public:
  /// `trainable`: whether gradient shards are kept. `type`: of compute: float32, float64 or bfloat16.
  /// Parameters are undefined until they are filled (initialise, load_weights, a checkpoint), padding and
  /// gradients zero. `arena`: where the gradients lie, null = in memory of their own. Keeps references to
  /// `mesh` and `buffers`, which must outlive it. No communication.
  ShardedNetwork(std::string name, std::vector<UnitSpec> units, const Mesh& mesh, at::ScalarType type,
                 bool trainable, GatherBuffers& buffers, GradientArena* arena = nullptr);
  ShardedNetwork(const ShardedNetwork&) = delete;
  ShardedNetwork& operator=(const ShardedNetwork&) = delete;
  ~ShardedNetwork() { buffers_.forget(this); }

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
  /// Whether it is trained on two levels: masters are pieces of shards.
  bool has_pieces() const { return trainable_ && mesh_.extents().pieces > 1; }
  /// Ranks that together hold the masters, or what is kept in their place, once: all of the mesh if they are
  /// cut into pieces, else the copy group.
  comm::Communicator& state_group() const { return has_pieces() ? mesh_.world() : mesh_.copy_group(); }
  /// Brings the masters' values to the shards that are gathered, where these are not the same memory.
  /// `is_rounded`: own_piece has them already where it is in bfloat16 (an optimizer rounds in its own pass).
  /// Collective over: the replicate group, if there are pieces; else nothing happens.
  void publish(bool is_rounded = false);
  /// This rank's piece of a part of a unit in the type that is gathered, [piece_elements]. Where there are
  /// pieces.
  at::Tensor own_piece(int unit, int part) const;

  /// Tensors of a unit's parameters in the order of its spec, each this rank's block of it (block_shape),
  /// valid until this object is destroyed. Writing to them is not allowed.
  class Gathered {
   public:
    /// `network`: whose buffers are in use, null = none.
    Gathered(ShardedNetwork* network, std::vector<at::Tensor> tensors)
        : params(std::move(tensors)), network_(network) {}
    Gathered(const Gathered&) = delete;
    Gathered& operator=(const Gathered&) = delete;
    ~Gathered() {
      if (network_) network_->buffers_.give_back();
    }
    const std::vector<at::Tensor> params;

   private:
    ShardedNetwork* network_;
  };

  /// Throws kInternal while a unit of any network that shares the buffers is gathered, unless it is a kept
  /// one. Collective over: the copy group.
  Gathered gather(int unit);

  /// Units from `first_unit` on, `count` of them, stay gathered within a phase in memory of their own, and
  /// run_unit keeps their activations instead of computing them again.
  void keep_units(int first_unit, int count);
  bool keeps(int unit) const { return !kept_.empty() && kept_[unit].is_kept; }
  /// The same in full precision: masters where there are any. For exports and diagnostics. It may lie in the
  /// buffers: `gather` throws while it lives. Collective over: the state group.
  Gathered gather_master(int unit);
  /// Whole parameter `param` of a unit out of its `block` (one of Gathered::params), which may be the result.
  /// Collective over: the tensor group, if the parameter has a split dimension.
  at::Tensor whole_parameter(int unit, int param, const at::Tensor& block) const;

  /// Waits for reductions (GradientSink), then sums the gradient shards over the replicas, into pieces if
  /// there are any. Once per step, before clip and optimizer; trainable networks only. Collective over: the
  /// replicate group.
  void reduce_over_replicas();

  /// Forgets the gradients: the next ones overwrite them, so that nothing is filled with zeros. Trainable
  /// networks only.
  void zero_gradients();

  /// Whole tensor of one parameter in its shape and in full precision, a copy, equal on all ranks. For tests
  /// and diagnostics: it gathers a unit. Throws kInternal for an unknown name.
  /// Collective over: the state group.
  at::Tensor full_parameter(const std::string& name);
  /// The same of its gradient, as reduce_over_replicas has left it (without pieces, before that: summed over
  /// the copy group); trainable networks only.
  at::Tensor full_gradient(const std::string& name);
  /// The gradients of all parameters of a unit, in order, gathered at once. As full_gradient.
  std::vector<at::Tensor> full_gradients(int unit);

  /// Seconds that calls have blocked in communication since the last take_exposed_time.
  struct ExposedTime {
    double gather_s = 0;    ///< parameters
    double reduce_s = 0;    ///< gradients
    double exchange_s = 0;  ///< tokens and heads (TokenExchange)
  };
  ExposedTime take_exposed_time();
  ExposedTime& exposed_time() { return exposed_; }

 private:
  friend class GatherBuffers;
  friend class GradientSink;

  struct KeptUnit {
    bool is_kept = false;
    at::Tensor gathered, staging;  // bytes
    std::vector<at::Tensor> parts;
    int64_t pass = -1;  // of the buffers, in which it was gathered
  };

  at::ScalarType part_type(const FlatPart& part) const { return part.wide ? at::kFloat : type_; }
  GatherBuffers::Sizes buffer_sizes(const FlatLayout& layout) const {
    return sharding::buffer_sizes(layout, type_, trainable_, communicates());
  }
  void add_shard(int unit);
  void allocate_gradients(GradientArena* arena);
  bool communicates() const { return mesh_.copy_group().size() > 1; }
  comm::Communicator& group_of(const FlatPart& part) const {
    return part.split ? mesh_.shard_group() : mesh_.copy_group();
  }
  std::vector<at::Tensor> views(const std::vector<at::Tensor>& parts, int unit) const;
  // Called by the buffers. Leaves the whole parts, or what they will be once `works` are done.
  void start_gather(int unit, const at::Tensor& gathered, const at::Tensor& staging,
                    std::vector<at::Tensor>& parts, std::vector<comm::Work>& works);
  std::vector<at::Tensor> whole_shards(const at::Tensor& pieces, int unit);
  void start_gather_of(const std::vector<at::Tensor>& shards, int unit, const at::Tensor& gathered,
                       std::vector<at::Tensor>& parts, std::vector<comm::Work>& works);
  void wait_for(std::vector<comm::Work>& works, double ExposedTime::*counter);
  std::vector<at::Tensor> flat_gradient(int unit, const at::Tensor& bytes) const;
  void start_reduction(int unit, const std::vector<at::Tensor>& flat, GatherBuffers::ReduceSlot& slot);
  void add_reduced(int unit, const at::Tensor& sum_bytes);
  at::Tensor settled_gradient(int unit);
  const std::vector<at::Tensor>& kept_parts(int unit);
  Gathered gather_whole(const std::vector<at::Tensor>& shards, int unit);
  std::vector<at::Tensor> cast_parts(int unit, const at::Tensor& buffer) const;
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
  std::vector<KeptUnit> kept_;  // empty, or one for each unit
  ExposedTime exposed_;
};

}  // namespace tmd::sharding
