#include "comm/fake_communicator.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"

namespace tmd::comm {
namespace {

int64_t bytes_of(const at::Tensor& tensor) {
  return tensor.numel() * static_cast<int64_t>(tensor.element_size());
}

bool has_values(const at::Tensor& tensor) { return tensor.device().is_cpu(); }

// What `size` equal ranks make of one rank's values.
void reduce_equal(const at::Tensor& tensor, int size, ReduceOp op) {
  if (op == ReduceOp::kSum) tensor.mul_(size);
}

}  // namespace

FakeWorld::FakeWorld(int ranks) : ranks_(ranks) { ensure(ranks >= 1, "a world has ranks"); }

void FakeWorld::as_every_rank(const std::function<void(Communicator&)>& action) {
  for (int rank = 0; rank < ranks_; ++rank) action(*communicator(rank));
  reset_traffic();
}

std::unique_ptr<Communicator> FakeWorld::communicator(int rank) {
  ensure(rank >= 0 && rank < ranks_, "the rank is one of the world");
  return std::unique_ptr<Communicator>(new FakeCommunicator(*this, rank, "", 0, "world"));
}

FakeCommunicator::FakeCommunicator(FakeWorld& world, int world_rank, std::string path, int color,
                                   std::string name)
    : world_(world), world_rank_(world_rank), path_(std::move(path)), color_(color), name_(std::move(name)) {}

std::vector<int> FakeCommunicator::members() const {
  std::vector<int> ranks;
  if (path_.empty()) {
    ranks.resize(static_cast<size_t>(world_.ranks_));
    std::iota(ranks.begin(), ranks.end(), 0);
    return ranks;
  }
  const auto& choices = world_.splits_.at(path_);
  for (const auto& [rank, choice] : choices) {
    if (choice.color == color_) ranks.push_back(rank);
  }
  std::ranges::stable_sort(ranks, {}, [&](int rank) { return choices.at(rank).key; });
  return ranks;
}

int FakeCommunicator::rank() const {
  const std::vector<int> ranks = members();
  return static_cast<int>(std::ranges::find(ranks, world_rank_) - ranks.begin());
}

void FakeCommunicator::count(OperationKind kind, int64_t sent_bytes) {
  const std::vector<int> ranks = members();
  const auto [first, last] = std::ranges::minmax(ranks);
  FakeTraffic& traffic = world_.traffic_[{name_, kind}];
  ++traffic.calls;
  traffic.sent_bytes += sent_bytes;
  traffic.ranks = static_cast<int>(ranks.size());
  traffic.span = last - first + 1;
}

Work FakeCommunicator::all_gather(const at::Tensor& input, const at::Tensor& output) {
  const int64_t n = input.numel();
  ensure(output.numel() == n * size() && input.scalar_type() == output.scalar_type(),
         "an all_gather's output holds the inputs of all ranks");
  count(OperationKind::kAllGather, (size() - 1) * bytes_of(input));
  if (!has_values(output)) return {};
  const at::Tensor own = input.flatten().clone();  // it may be a slice of the output
  for (int rank = 0; rank < size(); ++rank) output.flatten().narrow(0, rank * n, n).copy_(own);
  return {};
}

Work FakeCommunicator::reduce_scatter(const at::Tensor& input, const at::Tensor& output, ReduceOp op) {
  const int64_t n = output.numel();
  ensure(input.numel() == n * size() && input.scalar_type() == output.scalar_type(),
         "a reduce_scatter's input holds the outputs of all ranks");
  count(OperationKind::kReduceScatter, (size() - 1) * bytes_of(output));
  if (!has_values(output)) return {};
  output.flatten().copy_(input.flatten().narrow(0, rank() * n, n));
  reduce_equal(output, size(), op);
  return {};
}

Work FakeCommunicator::all_reduce(const at::Tensor& tensor, ReduceOp op) {
  count(OperationKind::kAllReduce, 2 * (size() - 1) * bytes_of(tensor) / size());
  if (has_values(tensor)) reduce_equal(tensor, size(), op);
  return {};
}

Work FakeCommunicator::broadcast(const at::Tensor& tensor, int root) {
  ensure(root >= 0 && root < size(), "the root is a rank of the group");
  count(OperationKind::kBroadcast, size() > 1 ? bytes_of(tensor) : 0);
  return {};
}

Work FakeCommunicator::all_to_all(const at::Tensor& input, const at::Tensor& output) {
  ensure(input.numel() == output.numel() && input.numel() % size() == 0 &&
             input.scalar_type() == output.scalar_type(),
         "an all_to_all has equal chunks");
  const int64_t n = input.numel() / size();
  count(OperationKind::kAllToAll, (size() - 1) * bytes_of(input) / size());
  if (!has_values(output)) return {};
  for (int peer = 0; peer < size(); ++peer) {
    output.flatten().narrow(0, peer * n, n).copy_(input.flatten().narrow(0, rank() * n, n));
  }
  return {};
}

Work FakeCommunicator::send(const at::Tensor&, int peer, int tag) {
  throw Error(ErrorKind::kInternal,
              fmt::format("send to rank {} (tag {}) of '{}': there is nobody", peer, tag, name_));
}

Work FakeCommunicator::recv(const at::Tensor&, int peer, int tag) {
  throw Error(ErrorKind::kInternal,
              fmt::format("recv from rank {} (tag {}) of '{}': there is nobody", peer, tag, name_));
}

std::unique_ptr<Communicator> FakeCommunicator::split(int color, int key, const std::string& name) {
  check(color >= 0, ErrorKind::kInternal, fmt::format("split of '{}': color {} is negative", name_, color));
  const std::string path = fmt::format("{}:{}/{}", path_, color_, splits_++);
  world_.splits_[path][world_rank_] = {color, key};
  return std::unique_ptr<Communicator>(new FakeCommunicator(world_, world_rank_, path, color, name));
}

}  // namespace tmd::comm
