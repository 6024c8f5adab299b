#include "comm/fake_communicator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "comm/agree.h"

namespace tmd::comm {
namespace {

// Ranks of a 2 x 3 grid: rows of three neighbours, columns of two.
std::pair<std::unique_ptr<Communicator>, std::unique_ptr<Communicator>> grid(Communicator& world) {
  const int rank = world.rank();
  return {world.split(rank / 3, rank, "row"), world.split(rank % 3, -rank, "column")};
}

TEST(FakeCommunicator, groups_have_the_members_that_all_ranks_chose) {
  FakeWorld world(6);
  world.as_every_rank([](Communicator& rank) { grid(rank); });
  const auto here = world.communicator(4);
  const auto [row, column] = grid(*here);

  EXPECT_EQ(here->size(), 6);
  EXPECT_EQ(row->size(), 3);
  EXPECT_EQ(row->rank(), 1);
  EXPECT_EQ(column->size(), 2);
  EXPECT_EQ(column->rank(), 0) << "the key turns the order";
}

TEST(FakeCommunicator, groups_of_groups_are_told_apart_by_where_they_come_from) {
  FakeWorld world(4);
  const auto pairs = [](Communicator& all) {
    const auto half = all.split(all.rank() / 2, all.rank(), "half");
    return half->split(0, 0, "all of a half")->size();
  };
  world.as_every_rank([&](Communicator& rank) { pairs(rank); });

  EXPECT_EQ(pairs(*world.communicator(0)), 2);
}

TEST(FakeCommunicator, counts_what_a_rank_must_send) {
  FakeWorld world(4);
  const auto all = world.communicator(0);
  const at::Tensor part = at::ones({8}), whole = at::ones({32});
  all->all_gather(part, whole.clone()).wait();
  all->all_gather(part, whole.clone()).wait();
  all->reduce_scatter(whole, part.clone(), ReduceOp::kSum).wait();
  all->all_reduce(whole.clone(), ReduceOp::kMax).wait();
  all->all_to_all(whole, whole.clone()).wait();

  const auto sent = [&](OperationKind kind) { return world.traffic().at({"world", kind}).sent_bytes; };
  EXPECT_EQ(sent(OperationKind::kAllGather), 2 * 3 * 8 * 4);
  EXPECT_EQ(world.traffic().at({"world", OperationKind::kAllGather}).calls, 2);
  EXPECT_EQ(sent(OperationKind::kReduceScatter), 3 * 8 * 4);
  EXPECT_EQ(sent(OperationKind::kAllReduce), 2 * 3 * 32 * 4 / 4);
  EXPECT_EQ(sent(OperationKind::kAllToAll), 3 * 8 * 4);
  EXPECT_EQ(world.traffic().at({"world", OperationKind::kAllGather}).span, 4);
}

TEST(FakeCommunicator, host_tensors_get_what_equal_ranks_would_give) {
  FakeWorld world(3);
  const auto all = world.communicator(0);
  const at::Tensor gathered = at::zeros({6});
  all->all_gather(at::tensor({1.0F, 2.0F}), gathered).wait();
  EXPECT_TRUE(gathered.equal(at::tensor({1.0F, 2.0F, 1.0F, 2.0F, 1.0F, 2.0F})));

  double sum = 2;
  comm::sum(*all, std::span<double>(&sum, 1));
  EXPECT_EQ(sum, 6);
  EXPECT_EQ(agree_max(*all, 5), 5);
  EXPECT_FALSE(agree_any(*all, false));
  EXPECT_EQ(gather_strings(*all, "x"), (std::vector<std::string>{"x", "x", "x"}));
  EXPECT_NO_THROW(agree_equal(*all, "same", "the text"));
}

TEST(FakeCommunicator, takes_tensors_without_values_and_checks_their_sizes) {
  FakeWorld world(2);
  const auto all = world.communicator(0);
  const auto meta = at::TensorOptions(at::kFloat).device(at::kMeta);
  EXPECT_NO_THROW(all->all_gather(at::empty({8}, meta), at::empty({16}, meta)).wait());
  EXPECT_THROW(all->all_gather(at::empty({8}, meta), at::empty({8}, meta)), Error);
  EXPECT_THROW(all->send(at::ones({1}), 1, 0), Error);
}

}  // namespace
}  // namespace tmd::comm
