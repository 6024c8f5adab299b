#include <gtest/gtest.h>

#include "comm/self_check.h"
#include "tests/support/mpi_main.h"

namespace tmd::comm {
namespace {

void expect_no_failures(Communicator& comm) {
  for (const std::string& failure : self_check(comm)) ADD_FAILURE() << failure;
}

TEST(SelfCheck, world_keeps_the_contract) { expect_no_failures(test::world()); }

TEST(SelfCheck, groups_keep_the_contract) {
  Communicator& world = test::world();
  const std::unique_ptr<Communicator> group = world.split(world.rank() / 2, world.rank(), "pairs");
  expect_no_failures(*group);
  group->close();
}

/// Passes all on, but spoils one value of every all_reduce on the last rank.
class SpoiledCommunicator final : public Communicator {
 public:
  explicit SpoiledCommunicator(Communicator& comm) : comm_(comm) {}

  int rank() const override { return comm_.rank(); }
  int size() const override { return comm_.size(); }
  const std::string& name() const override { return comm_.name(); }
  Work all_gather(const at::Tensor& input, const at::Tensor& output) override {
    return comm_.all_gather(input, output);
  }
  Work reduce_scatter(const at::Tensor& input, const at::Tensor& output, ReduceOp op) override {
    return comm_.reduce_scatter(input, output, op);
  }
  Work all_reduce(const at::Tensor& tensor, ReduceOp op) override {
    comm_.all_reduce(tensor, op).wait();
    if (rank() == size() - 1 && tensor.numel() > 0) tensor[0] += 1;
    return {};
  }
  Work broadcast(const at::Tensor& tensor, int root) override { return comm_.broadcast(tensor, root); }
  Work all_to_all(const at::Tensor& input, const at::Tensor& output) override {
    return comm_.all_to_all(input, output);
  }
  Work send(const at::Tensor& tensor, int peer, int tag) override { return comm_.send(tensor, peer, tag); }
  Work recv(const at::Tensor& tensor, int peer, int tag) override { return comm_.recv(tensor, peer, tag); }
  void barrier() override { comm_.barrier(); }
  std::unique_ptr<Communicator> split(int color, int key, const std::string& name) override {
    return comm_.split(color, key, name);
  }
  void close() override {}

 private:
  Communicator& comm_;
};

TEST(SelfCheck, wrong_result_of_one_rank_is_found_there_and_named) {
  SpoiledCommunicator spoiled(test::world());
  const std::vector<std::string> failures = self_check(spoiled);
  if (spoiled.rank() == spoiled.size() - 1) {
    EXPECT_FALSE(failures.empty());
  }
  for (const std::string& failure : failures) EXPECT_EQ(failure.rfind("all_reduce", 0), 0u) << failure;
}

}  // namespace
}  // namespace tmd::comm
