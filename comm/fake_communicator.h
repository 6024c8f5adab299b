#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "comm/journal.h"

namespace tmd::comm {

/// What one rank did in groups of one name.
struct FakeTraffic {
  int64_t calls = 0;
  int64_t sent_bytes = 0;  ///< what the rank has to send at least, to all others together
  int ranks = 1;           ///< of the group
  int64_t span = 1;        ///< world ranks from its first to its last, both included
};

/// A world of ranks of which only one exists: its communicators move nothing, and count. For plans.
///
/// Collectives on host tensors give what they would if all ranks brought the same; tensors of the meta device
/// have no values. There are no messages between two ranks.
/// Thread: one.
class FakeWorld {
 public:
  /// `ranks` >= 1 (kInternal).
  explicit FakeWorld(int ranks);

  /// Calls `action` as every rank in turn. What it splits off is known to the world afterwards: a group has
  /// its size only when all of its ranks have made the split. So before communicators are used, the code that
  /// makes them is run once in this way.
  void as_every_rank(const std::function<void(Communicator& world)>& action);

  /// The world as `rank` sees it. Borrows this object, as do the groups that are split off.
  std::unique_ptr<Communicator> communicator(int rank);

  using Traffic = std::map<std::pair<std::string, OperationKind>, FakeTraffic>;  // by name of the group
  const Traffic& traffic() const { return traffic_; }
  void reset_traffic() { traffic_.clear(); }

 private:
  friend class FakeCommunicator;
  struct Choice {
    int color, key;
  };

  int ranks_;
  std::map<std::string, std::map<int, Choice>> splits_;  // by split and world rank
  Traffic traffic_;
};

/// One rank's end of a group of a FakeWorld.
class FakeCommunicator final : public Communicator {
 public:
  int rank() const override;
  int size() const override { return static_cast<int>(members().size()); }
  const std::string& name() const override { return name_; }

  // All are complete when the call returns. Throw kInternal for element counts that do not fit.
  Work all_gather(const at::Tensor& input, const at::Tensor& output) override;
  Work reduce_scatter(const at::Tensor& input, const at::Tensor& output, ReduceOp op) override;
  Work all_reduce(const at::Tensor& tensor, ReduceOp op) override;
  Work broadcast(const at::Tensor& tensor, int root) override;
  Work all_to_all(const at::Tensor& input, const at::Tensor& output) override;
  /// Throw kInternal: there is nobody at the other end.
  Work send(const at::Tensor& tensor, int peer, int tag) override;
  Work recv(const at::Tensor& tensor, int peer, int tag) override;

  void barrier() override {}
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override;
  void close() override {}

 private:
  friend class FakeWorld;
  FakeCommunicator(FakeWorld& world, int world_rank, std::string path, int color, std::string name);

  std::vector<int> members() const;  // world ranks in the order of the group
  void count(OperationKind kind, int64_t sent_bytes);

  FakeWorld& world_;
  const int world_rank_;
  const std::string path_;  // of the split that made the group; empty: the world
  const int color_;
  const std::string name_;
  int splits_ = 0;  // made of this object
};

}  // namespace tmd::comm
