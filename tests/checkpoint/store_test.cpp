#include "checkpoint/store.h"

#include <unistd.h>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/folder.h"
#include "comm/single_communicator.h"

namespace tmd::checkpoint {
namespace {
namespace fs = std::filesystem;

/// A store with an empty folder for each step.
Store store_with(const std::vector<int64_t>& steps) {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  fs::path root =
      fs::path(testing::TempDir()) / (std::string("tmd_store_") + info->name() + std::to_string(::getpid()));
  remove_tree(root);
  Store store(root);
  for (int64_t step : steps) create_folders(store.folder(step));
  return store;
}

TEST(Store, folder_names_have_eight_digits_or_more) {
  EXPECT_EQ(Store("c").folder(2000), fs::path("c/step_00002000"));
  EXPECT_EQ(Store("c").folder(1'234'567'890), fs::path("c/step_1234567890"));
}

TEST(Store, steps_are_sorted_by_number_and_other_names_do_not_count) {
  Store store = store_with({100'000'000, 20, 3});
  for (const char* name : {"step_00000030.partial", "step_40", "step_", "step_0000000x", "notes"}) {
    create_folders(store.root() / name);
  }
  EXPECT_EQ(store.steps(), (std::vector<int64_t>{3, 20, 100'000'000}));
}

TEST(Store, prune_keeps_the_last_ones) {
  Store store = store_with({10, 20, 30, 40});
  store.prune({.keep_last = 2, .keep_every = 0}, 40);
  EXPECT_EQ(store.steps(), (std::vector<int64_t>{30, 40}));
  EXPECT_EQ(list_folder(store.root()).size(), 2u);
}

TEST(Store, prune_keeps_every_nth) {
  Store store = store_with({10, 20, 30, 40, 50});
  store.prune({.keep_last = 1, .keep_every = 20}, 50);
  EXPECT_EQ(store.steps(), (std::vector<int64_t>{20, 40, 50}));
}

TEST(Store, prune_keeps_those_that_are_named_besides_the_last_ones) {
  Store store = store_with({10, 20, 30, 40, 50});
  store.prune({.keep_last = 2, .keep_every = 0, .keep = {20, 25, 50}}, 50);
  EXPECT_EQ(store.steps(), (std::vector<int64_t>{20, 40, 50}));
}

TEST(Store, a_link_to_the_best_one_is_no_checkpoint_and_outlives_recovery_and_pruning) {
  Store store = store_with({10, 20, 30});
  fs::create_directory_symlink("step_00000010", store.root() / "BEST");
  comm::SingleCommunicator self("test");
  store.recover(self);
  store.prune({.keep_last = 1, .keep_every = 0, .keep = {10}}, 30);
  EXPECT_EQ(store.steps(), (std::vector<int64_t>{10, 30}));
  EXPECT_EQ(fs::read_symlink(store.root() / "BEST"), "step_00000010");
}

TEST(Store, prune_neither_counts_nor_removes_what_is_later_than_the_newest_good_one) {
  Store store = store_with({10, 20, 30, 40});
  store.prune({.keep_last = 1, .keep_every = 0}, 20);
  EXPECT_EQ(store.steps(), (std::vector<int64_t>{20, 30, 40}));
}

TEST(Store, prune_to_nothing_is_an_internal_error) {
  Store store = store_with({10});
  EXPECT_THROW(store.prune({.keep_last = 0, .keep_every = 0}, 10), Error);
  EXPECT_EQ(store.steps(), (std::vector<int64_t>{10}));
}

}  // namespace
}  // namespace tmd::checkpoint
