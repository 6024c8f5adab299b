#include "comm/self_check.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include "base/error.h"
#include "comm/single_communicator.h"
#include "mpi_main.h"

namespace tmd::comm {

TEST(SelfCheck, world_keeps_the_contract) {
  for (const std::string& failure : self_check(test::world())) ADD_FAILURE() << failure;
}

TEST(SelfCheck, halves_of_the_world_keep_the_contract) {
  auto half = test::world().split(test::world().rank() % 2, test::world().rank(), "half");

  for (const std::string& failure : self_check(*half)) ADD_FAILURE() << failure;

  half->close();
}

TEST(SelfCheck, single_rank_group_keeps_the_contract) {
  SingleCommunicator single("single");

  for (const std::string& failure : self_check(single)) ADD_FAILURE() << failure;
}

TEST(MpiCommunicator, wrong_sizes_and_types_are_refused_before_anything_is_sent) {
  Communicator& world = test::world();
  const at::Tensor one = at::zeros({1}, at::kFloat);

  EXPECT_THROW(world.all_gather(one, at::zeros({world.size() + 1}, at::kFloat)), Error);
  EXPECT_THROW(world.all_gather(one, at::zeros({world.size()}, at::kDouble)), Error);
  EXPECT_THROW(world.all_reduce(at::zeros({4, 4}, at::kFloat).t().narrow(0, 0, 2), ReduceOp::kSum), Error);
}

TEST(MpiCommunicator, large_all_reduce_equals_the_small_one_in_pieces) {
  Communicator& world = test::world();
  const at::Tensor large = at::sin(at::arange(700'001, at::kDouble) + world.rank()).to(at::kFloat);
  const at::Tensor pieces = large.clone();

  world.all_reduce(large, ReduceOp::kSum).wait();
  for (int64_t begin = 0; begin < pieces.numel(); begin += 1000) {
    world.all_reduce(pieces.narrow(0, begin, std::min<int64_t>(1000, pieces.numel() - begin)), ReduceOp::kSum).wait();
  }

  EXPECT_TRUE(large.equal(pieces));
}

}  // namespace tmd::comm
