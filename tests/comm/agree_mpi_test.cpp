#include "comm/agree.h"

#include <gtest/gtest.h>

#include "mpi_main.h"

namespace tmd::comm {

TEST(Agree, extremes_and_flags_are_those_of_all_ranks) {
  Communicator& world = test::world();
  const int last = world.size() - 1;

  EXPECT_EQ(agree_max(world, world.rank()), last);
  EXPECT_EQ(agree_min(world, world.rank() - 5), -5);
  EXPECT_TRUE(agree_any(world, world.rank() == last));
  EXPECT_FALSE(agree_any(world, false));
  EXPECT_TRUE(agree_all(world, true));
  EXPECT_EQ(agree_all(world, world.rank() != last), false);
}

TEST(Agree, sum_adds_every_value) {
  Communicator& world = test::world();
  double values[2] = {1.0 * world.rank(), 0.5};

  sum(world, values);

  EXPECT_EQ(values[0], world.size() * (world.size() - 1) / 2.0);
  EXPECT_EQ(values[1], 0.5 * world.size());
}

TEST(Agree, strings_of_different_lengths_arrive) {
  Communicator& world = test::world();

  const auto texts = gather_strings(world, std::string(static_cast<size_t>(world.rank()), 'x'));

  for (int r = 0; r < world.size(); ++r) EXPECT_EQ(texts[static_cast<size_t>(r)], std::string(static_cast<size_t>(r), 'x'));
  EXPECT_EQ(broadcast_string(world, world.rank() == 0 ? "hello" : "", 0), "hello");
}

TEST(Agree, error_of_one_rank_is_thrown_by_all) {
  Communicator& world = test::world();
  const int failing = world.size() - 1;
  try {
    run_agreed(world, [&] { check(world.rank() != failing, ErrorKind::kIo, "disk is full", "delete something"); });
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kIo);
    EXPECT_EQ(e.hint(), "delete something");
    const std::string rank = world.size() == 1 ? "" : "rank " + std::to_string(failing) + ": ";
    EXPECT_EQ(std::string(e.what()), rank + "disk is full");
  }
  run_agreed(world, [] {});
}

TEST(Agree, difference_names_the_ranks_that_differ) {
  Communicator& world = test::world();
  agree_equal(world, "same", "the configuration");
  if (world.size() == 1) return;
  try {
    agree_equal(world, world.rank() == 1 ? "other" : "same", "the configuration");
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kConfig);
    EXPECT_NE(std::string(e.what()).find("rank 1 differs"), std::string::npos) << e.what();
  }
}

}  // namespace tmd::comm
