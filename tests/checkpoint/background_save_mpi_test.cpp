#include <atomic>
#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "checkpoint/background_save.h"
#include "mpi_main.h"
#include "tests/checkpoint/example.h"

namespace tmd::checkpoint {
namespace {
namespace fs = std::filesystem;

using test::world;

Description description() { return example_description(10, world().size()); }

void scribble(Example& example, size_t part) {
  for (std::byte& byte : example.bytes[part]) byte = ~byte;
}

/// Holds the writer of this rank before its first byte until it is told to go on.
struct Gate {
  std::atomic<bool> is_open = false;
  SaveHooks hooks() {
    return {.before_write = [this] { is_open.wait(false); }, .before_commit = {}, .after_commit = {}};
  }
  void open() {
    is_open = true;
    is_open.notify_all();
  }
};

}  // namespace

TEST(BackgroundSave, what_was_kept_may_change_before_it_is_written) {
  const fs::path root = fresh_folder(world());
  Example example(world().rank(), world().size(), 10);
  Gate gate;
  BackgroundSave save(world(), root / step_folder_name(10), description(), example.to_save(), gate.hooks());
  save.keep("student");
  for (size_t part : {0, 1, 2}) scribble(example, part);
  EXPECT_FALSE(save.is_idle());
  gate.open();
  save.finish();

  EXPECT_TRUE(loads_back(world(), root, 10));
}

TEST(BackgroundSave, keeping_while_it_writes_changes_nothing) {
  const fs::path root = fresh_folder(world());
  for (int64_t step = 10; step < 30; ++step) {
    Example example(world().rank(), world().size(), step);
    BackgroundSave save(world(), root / step_folder_name(step), example_description(step, world().size()),
                        example.to_save(), {}, {"fake", "absent"});
    std::this_thread::sleep_for(std::chrono::microseconds(100 * (step - 10)));
    for (const char* group : {"fake", "student", "fake"}) save.keep(group);
    for (size_t part = 0; part < example.bytes.size(); ++part) scribble(example, part);
    save.finish();
    EXPECT_TRUE(loads_back(world(), root, step)) << step;
    EXPECT_FALSE(fs::exists(root / step_folder_name(step) / "rank_00000.absent.safetensors"));
  }
}

TEST(BackgroundSave, is_complete_after_two_steps_that_all_ranks_take) {
  const fs::path root = fresh_folder(world());
  Example example(world().rank(), world().size(), 10);
  std::atomic<int> committed = 0;
  SaveHooks hooks{.before_write = {}, .before_commit = {}, .after_commit = [&] { ++committed; }};
  BackgroundSave save(world(), root / step_folder_name(10), description(), example.to_save(), hooks);

  EXPECT_FALSE(save.advance());
  EXPECT_TRUE(save.advance());

  EXPECT_EQ(committed, world().rank() == 0 ? 1 : 0);
  EXPECT_TRUE(loads_back(world(), root, 10));
}

TEST(BackgroundSave, failure_of_one_rank_is_that_of_all_and_leaves_older_ones) {
  const fs::path root = fresh_folder(world());
  save_example(world(), root, 5);
  Example example(world().rank(), world().size(), 10);
  const int guilty = world().size() - 1;
  for (const bool in_commit : {false, true}) {
    const auto fail = [] { throw Error(ErrorKind::kIo, "no room for this test"); };
    SaveHooks hooks;
    if (in_commit) hooks.before_commit = fail;
    if (!in_commit && world().rank() == guilty) hooks.before_write = fail;
    BackgroundSave save(world(), root / step_folder_name(10), description(), example.to_save(), hooks);

    const Error error = error_of([&] { save.finish(); });

    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_TRUE(contains(error.what(), "no room for this test")) << error.what();
    world().barrier();
    EXPECT_EQ(list_folder(root), (std::vector<fs::path>{root / step_folder_name(5)}));
    world().barrier();
  }
  EXPECT_TRUE(loads_back(world(), root, 5));
}

// As when a run ends with an error while a checkpoint is being written.
TEST(BackgroundSave, one_that_is_dropped_ends_soon_and_leaves_no_checkpoint) {
  const fs::path root = fresh_folder(world());
  Example example(world().rank(), world().size(), 10);
  {
    Gate gate;
    BackgroundSave save(world(), root / step_folder_name(10), description(), example.to_save(), gate.hooks());
    gate.open();
  }
  world().barrier();
  EXPECT_TRUE(Store(root).steps().empty());
  Store(root).recover(world());
  world().barrier();
  EXPECT_TRUE(list_folder(root).empty());
}

}  // namespace tmd::checkpoint
