#include <functional>

#include <gtest/gtest.h>

#include "base/publish.h"
#include "checkpoint/store.h"
#include "mpi_main.h"
#include "tests/checkpoint/example.h"

namespace tmd::checkpoint {
namespace {
namespace fs = std::filesystem;

using test::world;

/// Lets rank 0 act while the others wait.
void on_first_rank(const std::function<void()>& action) {
  world().barrier();
  if (world().rank() == 0) action();
  world().barrier();
}

/// Loads the newest intact example below `root`.
Choice load_newest(const fs::path& root) {
  return Store(root).load_newest(world(),
                                 [&](int64_t step) { EXPECT_TRUE(loads_back(world(), root, step)); });
}

/// What is loaded after checkpoints 10 and 20 were written and the folder of 20 was damaged.
Choice choose_after(const std::function<void(const fs::path&)>& damage) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  save_example(world(), root, 20);
  on_first_rank([&] { damage(root / "step_00000020"); });
  Choice choice = load_newest(root);
  EXPECT_EQ(choice.step, 10);
  EXPECT_EQ(choice.damage.size(), 1u);
  return choice;
}

std::string last_student_file() {
  return "rank_0000" + std::to_string(world().size() - 1) + ".student.safetensors";
}

TEST(Store, empty_or_missing_folder_has_no_checkpoint) {
  fs::path root = fresh_folder(world());
  EXPECT_FALSE(load_newest(root).step.has_value());
  EXPECT_FALSE(load_newest(root / "none").step.has_value());
}

TEST(Store, newest_intact_checkpoint_is_chosen) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  save_example(world(), root, 9);

  Choice choice = load_newest(root);

  EXPECT_EQ(choice.step, 10);
  EXPECT_TRUE(choice.damage.empty());
  EXPECT_EQ(Store(root).steps(), (std::vector<int64_t>{9, 10}));
}

TEST(Store, flipped_bit_in_any_file_falls_back_and_names_file_tensor_and_block) {
  Choice choice = choose_after([](const fs::path& folder) { flip_bit(folder / last_student_file(), 9); });
  EXPECT_TRUE(contains(choice.damage.at(0), "step_00000020")) << choice.damage.at(0);
  EXPECT_TRUE(contains(choice.damage.at(0), last_student_file())) << choice.damage.at(0);
  EXPECT_TRUE(contains(choice.damage.at(0), "tensor \"student.ema\", block 0 of 1")) << choice.damage.at(0);
}

TEST(Store, truncated_file_falls_back) {
  Choice choice = choose_after([](const fs::path& folder) {
    fs::resize_file(folder / last_student_file(), fs::file_size(folder / last_student_file()) / 2);
  });
  EXPECT_TRUE(contains(choice.damage.at(0), "truncated")) << choice.damage.at(0);
}

TEST(Store, emptied_file_falls_back) {
  choose_after([](const fs::path& folder) { fs::resize_file(folder / last_student_file(), 0); });
}

TEST(Store, missing_file_falls_back) {
  Choice choice = choose_after([](const fs::path& folder) { fs::remove(folder / last_student_file()); });
  EXPECT_TRUE(contains(choice.damage.at(0), last_student_file())) << choice.damage.at(0);
}

TEST(Store, damaged_missing_or_foreign_manifest_falls_back) {
  choose_after([](const fs::path& folder) { flip_bit(folder / "manifest.json", 300); });
  choose_after([](const fs::path& folder) { fs::remove(folder / "manifest.json"); });
  choose_after([](const fs::path& folder) { fs::resize_file(folder / "manifest.json", 100); });
  Choice foreign = choose_after([](const fs::path& folder) {
    fs::copy_file(folder.parent_path() / "step_00000010" / "manifest.json", folder / "manifest.json",
                  fs::copy_options::overwrite_existing);
  });
  EXPECT_TRUE(contains(foreign.damage.at(0), "its manifest is of step 10")) << foreign.damage.at(0);
}

TEST(Store, files_of_another_step_fall_back) {
  choose_after([](const fs::path& folder) {
    fs::copy_file(folder.parent_path() / "step_00000010" / last_student_file(), folder / last_student_file(),
                  fs::copy_options::overwrite_existing);
  });
}

TEST(Store, all_damaged_is_an_io_error_and_never_a_fresh_start) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  save_example(world(), root, 20);
  on_first_rank([&] {
    fs::remove(root / "step_00000010" / last_student_file());
    flip_bit(root / "step_00000020" / last_student_file(), 1);
  });

  Error error = error_of([&] { load_newest(root); });

  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_TRUE(contains(error.what(), "step_00000010") && contains(error.what(), "step_00000020"))
      << error.what();
}

TEST(Store, newer_version_of_the_format_is_no_damage) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  save_example(world(), root, 20);
  on_first_rank([&] {
    nlohmann::json json = nlohmann::json::parse(to_json(read_manifest(root / "step_00000020")));
    json["version"] = 2;
    publish_file(root / "step_00000020" / "manifest.json", json.dump());
  });
  EXPECT_EQ(error_of([&] { load_newest(root); }).kind(), ErrorKind::kData);
}

TEST(Store, recover_removes_leftovers_and_brings_a_replaced_checkpoint_back) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  save_example(world(), root, 20);
  on_first_rank([&] {
    fs::rename(root / "step_00000010", root / "step_00000010.replaced");
    fs::create_directory(root / "step_00000020.replaced");
    fs::create_directory(root / "step_00000030.partial");
    fs::create_directory(root / "notes.partial");
  });

  Store(root).recover(world());
  world().barrier();

  EXPECT_EQ(list_folder(root),
            (std::vector<fs::path>{root / "notes.partial", root / "step_00000010", root / "step_00000020"}));
  EXPECT_TRUE(loads_back(world(), root, 10));
}

TEST(Store, recover_creates_the_folder) {
  fs::path root = fresh_folder(world()) / "checkpoints";
  Store(root).recover(world());
  EXPECT_TRUE(fs::is_directory(root));
}

TEST(Store, chosen_partial_folder_never_counts) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  save_example(world(), root, 20);
  on_first_rank([&] { fs::rename(root / "step_00000020", root / "step_00000020.partial"); });
  EXPECT_EQ(load_newest(root).step, 10);
}

}  // namespace
}  // namespace tmd::checkpoint
