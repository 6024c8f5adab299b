#include <signal.h>
#include <sys/resource.h>

#include <gtest/gtest.h>

#include "checkpoint/writer.h"
#include "mpi_main.h"
#include "tests/checkpoint/example.h"

namespace tmd::checkpoint {
namespace {
namespace fs = std::filesystem;

using test::world;

/// Files of this process may not grow beyond `bytes`, as on a full disk, while this object lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST(Save, folder_has_its_final_name_and_nothing_is_left_over) {
  fs::path root = fresh_folder(world());

  save_example(world(), root, 10);

  EXPECT_EQ(list_folder(root), std::vector<fs::path>{root / "step_00000010"});
  EXPECT_EQ(list_folder(root / "step_00000010").size(), static_cast<size_t>(2 * world().size() + 1));
  EXPECT_TRUE(fs::exists(root / "step_00000010" / "rank_00000.student.safetensors"));
  Manifest manifest = read_manifest(root / "step_00000010");
  EXPECT_EQ(manifest.parts.size(), static_cast<size_t>(4 * world().size()));
  const Part* part = manifest.find(world().size() - 1, "student.master");
  EXPECT_TRUE(part != nullptr && part->block_hashes.size() == 2 && part->slices.size() == 1);
}

TEST(Save, existing_checkpoint_of_the_step_is_replaced) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  Example other(world().rank(), world().size(), 99);

  save(world(), root / step_folder_name(10), example_description(10, world().size()), other.to_save());

  Example loaded = other;
  loaded.clear();
  load(world(), world(), root / step_folder_name(10), [&](const Description&) { return loaded.to_load(); });
  EXPECT_EQ(loaded.bytes, other.bytes);
  EXPECT_EQ(list_folder(root).size(), 1u);
}

TEST(Save, leftovers_of_an_interrupted_save_do_not_get_in) {
  fs::path root = fresh_folder(world());
  if (world().rank() == 0) {
    create_folders(root / "step_00000010.partial");
    std::ofstream(root / "step_00000010.partial" / "stray") << "x";
  }
  world().barrier();

  save_example(world(), root, 10);

  EXPECT_FALSE(fs::exists(root / "step_00000010" / "stray"));
}

TEST(Save, full_disk_on_one_rank_is_the_same_error_on_all_and_older_checkpoints_stay) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);

  Error error = [&] {
    std::optional<FileSizeLimit> limit;
    if (world().rank() == world().size() - 1) limit.emplace(100'000);
    return error_of([&] { save_example(world(), root, 20); });
  }();
  world().barrier();

  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  std::string file = "rank_0000" + std::to_string(world().size() - 1) + ".student.safetensors";
  EXPECT_TRUE(contains(error.what(), file)) << error.what();
  EXPECT_EQ(list_folder(root), std::vector<fs::path>{root / "step_00000010"});
  EXPECT_TRUE(loads_back(world(), root, 10));
  save_example(world(), root, 20);
  EXPECT_TRUE(loads_back(world(), root, 20));
}

TEST(Save, full_disk_while_replacing_keeps_the_replaced_checkpoint) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  Error error = [&] {
    std::optional<FileSizeLimit> limit;
    if (world().rank() == 0) limit.emplace(100'000);
    return error_of([&] { save_example(world(), root, 10); });
  }();

  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_TRUE(loads_back(world(), root, 10));
}

TEST(Save, manifest_that_cannot_be_written_is_an_error_on_all_ranks) {
  fs::path root = fresh_folder(world());
  Description description = example_description(10, world().size());
  description.state["large"] = std::string(8'000'000, 'x');
  Example example(world().rank(), world().size(), 10);

  FileSizeLimit limit(4'000'000);
  Error error = error_of([&] { save(world(), root / "step_00000010", description, example.to_save()); });
  world().barrier();

  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_TRUE(contains(error.what(), "manifest.json")) << error.what();
  EXPECT_TRUE(list_folder(root).empty());
}

TEST(Save, unwritable_root_is_an_io_error_on_all_ranks) {
  fs::path root = fresh_folder(world());
  if (world().rank() == 0) std::ofstream(root / "file") << "x";
  world().barrier();
  EXPECT_EQ(error_of([&] { save_example(world(), root / "file", 10); }).kind(), ErrorKind::kIo);
}

TEST(Save, wrong_parts_of_one_rank_are_an_internal_error_on_all) {
  fs::path root = fresh_folder(world());
  auto refused = [&](auto change) {
    Example example(world().rank(), world().size(), 10);
    if (world().rank() == world().size() - 1) change(example);
    Error error = error_of([&] {
      save(world(), root / "step_00000010", example_description(10, world().size()), example.to_save());
    });
    world().barrier();
    EXPECT_TRUE(list_folder(root).empty());
    return error.kind();
  };
  EXPECT_EQ(refused([](Example& e) { e.keys[1] = e.keys[0]; }), ErrorKind::kInternal);
  EXPECT_EQ(refused([](Example& e) { e.keys[1] = "a/b"; }), ErrorKind::kInternal);
  EXPECT_EQ(refused([](Example& e) { e.keys[1] = ".hidden"; }), ErrorKind::kInternal);
  EXPECT_EQ(refused([](Example& e) { e.slices[1][0].byte_offset = 1'000'000; }), ErrorKind::kInternal);
}

TEST(Save, mesh_of_another_size_than_the_communicator_is_an_internal_error) {
  fs::path root = fresh_folder(world());
  Example example(world().rank(), world().size(), 10);
  Description description = example_description(10, world().size() + 1);
  EXPECT_EQ(error_of([&] { save(world(), root / "step_00000010", description, example.to_save()); }).kind(),
            ErrorKind::kInternal);
}

}  // namespace
}  // namespace tmd::checkpoint
