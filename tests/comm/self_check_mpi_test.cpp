#include <gtest/gtest.h>

#include "comm/self_check.h"
#include "tests/support/mpi_main.h"
#include "tests/support/wrapped_communicator.h"

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

/// Spoils one value of every all_reduce on the last rank.
class SpoiledCommunicator final : public test::WrappedCommunicator {
 public:
  using WrappedCommunicator::WrappedCommunicator;

  Work all_reduce(const at::Tensor& tensor, ReduceOp op) override {
    inner().all_reduce(tensor, op).wait();
    if (rank() == size() - 1 && tensor.numel() > 0) tensor[0] += 1;
    return {};
  }
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
