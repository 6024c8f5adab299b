#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "comm/communicator.h"

namespace tmd::sharding {

class ShardedNetwork;

/// A unit of a network.
struct UnitId {
  ShardedNetwork* network = nullptr;
  int unit = -1;
  bool operator==(const UnitId&) const = default;
};

/// Buffers that all networks of a rank share, and the order in which their units are gathered.
///
/// One unit is in use at a time, while the next one is on its way into the other of two buffers (or is still
/// there: where a backward pass begins); the gradients of a unit are on their way out while the next one is
/// recomputed. Buffers grow to the largest unit that is registered and stay, so that the steady state
/// allocates nothing.
///
/// Within a phase (begin_phase .. end_phase) the same units are gathered in the same order every time: the
/// first pass records it, later ones gather ahead by it, from one network into the next. Every other order is
/// legal and costs only the overlap. Parameters may not change within a phase.
/// Thread: one at a time. All ranks of a mesh make the same calls.
class GatherBuffers {
 public:
  /// Bytes that a network's largest unit needs.
  struct Sizes {
    int64_t gathered = 0;        ///< whole unit in the types of compute, or in full precision
    int64_t staging = 0;         ///< shard of a unit on its way to another type
    int64_t gradient = 0;        ///< whole unit, input of the reduction
    int64_t gradient_shard = 0;  ///< sums that are added to others (expect_sums)

    void grow(const Sizes& other);  ///< to the larger of each
    /// Of what is there from the start: two of each for gathers, one for reductions.
    int64_t bytes() const { return 2 * (gathered + staging) + gradient; }
  };
  /// `device`: where they are, and where the networks that use them keep their shards.
  explicit GatherBuffers(at::Device device = at::kCPU) : device_(device) {}
  at::Device device() const { return device_; }
  void reserve(const Sizes& sizes);
  /// From now on `reserve` also takes the buffer of sums that are added to others, which otherwise waits
  /// until there first are any: where units run several times between two steps, it is there from the start.
  void expect_sums() { expects_sums_ = true; }
  /// Of all buffers that are there.
  int64_t bytes() const;

  /// Starts a pass through the phase called `name`, and the gather of its first unit if it has been recorded.
  /// A phase that an exception has left counts as never begun.
  void begin_phase(const std::string& name);
  /// Ends it. What was gathered ahead in vain is waited for.
  void end_phase();

  /// Waits for all gradients that are on their way and adds them to their shards.
  void finish_reductions();

  struct Counts {
    int64_t uses = 0;        ///< units that were asked for
    int64_t gathers = 0;     ///< gathers that were started; the two last units are there without another one
    int64_t ahead = 0;       ///< of those: started before the unit was asked for
    int64_t deviations = 0;  ///< phases that came in another order than recorded
  };
  const Counts& counts() const { return counts_; }

 private:
  friend class ShardedNetwork;
  friend class GradientSink;

  struct GatherSlot {
    at::Tensor gathered, staging;  // bytes
    UnitId holds;                  // what is in it or on its way, if anything
    std::vector<at::Tensor> parts;
    std::vector<comm::Work> works;
  };
  struct ReduceSlot {
    at::Tensor gradient, shard;  // bytes
    UnitId holds;
    bool adds = false;  // the sums are in `shard`, to be added to the unit's; else they are where they belong
    std::vector<comm::Work> works;
  };

  // Called by ShardedNetwork.
  const std::vector<at::Tensor>& take(UnitId wanted);
  void give_back();
  // Bytes for a gather out of turn, to be given back; undefined within a phase, or where there are too few.
  at::Tensor lend(int64_t bytes);
  ReduceSlot& next_reduction();
  const at::Tensor& sum_buffer(ReduceSlot& slot);
  // target += values of another type. On a CPU ATen would take memory for all of them in the target's type.
  void add_cast(const at::Tensor& target, const at::Tensor& values);
  void forget(const ShardedNetwork* network);
  // Counts passes; what is kept from another pass is out of date.
  int64_t pass() const { return in_phase_ ? pass_ : -1; }

  void note(UnitId wanted);
  void mark(UnitId id) const;
  void start(UnitId id, GatherSlot& slot);
  void gather_ahead();
  void drop_ahead();

  at::Device device_;
  std::array<GatherSlot, 2> gathers_;
  ReduceSlot reduction_;
  at::Tensor cast_;        // of add_cast
  int64_t sum_bytes_ = 0;  // of the largest unit, for sum_buffer
  bool expects_sums_ = false;
  int current_ = 0;  // of gathers_: the one that was taken last
  bool is_taken_ = false;

  std::map<std::string, std::vector<UnitId>> recorded_;
  std::string phase_;
  std::vector<UnitId> order_;  // of this pass so far
  const std::vector<UnitId>* expected_ = nullptr;
  bool in_phase_ = false;
  int64_t pass_ = 0;
  Counts counts_;
};

/// Memory for the gradient shards of networks that are never updated together: the one that comes first needs
/// the most. Between two networks' turns the content is nobody's (UnitShard::has_gradient).
class GradientArena {
 public:
  explicit GradientArena(at::Device device = at::kCPU) : device_(device) {}
  /// [elements] of `type`, zero.
  at::Tensor get(int64_t elements, at::ScalarType type);

 private:
  at::Device device_;
  at::Tensor memory_;
};

}  // namespace tmd::sharding
