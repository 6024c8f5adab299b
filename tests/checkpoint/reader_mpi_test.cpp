#include <gtest/gtest.h>

#include "checkpoint/reader.h"
#include "mpi_main.h"
#include "tests/checkpoint/example.h"

namespace tmd::checkpoint {
namespace {
namespace fs = std::filesystem;

using test::world;

/// Saves step 10, lets the last rank change what it asks for, and returns the error of all ranks.
template <class Change>
Error error_of_changed_request(Change change) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  Example example(world().rank(), world().size(), 10);
  if (world().rank() == world().size() - 1) change(example);
  return error_of(
      [&] { load(world(), root / "step_00000010", example_mesh(world().size()), example.to_load()); });
}

TEST(Load, bytes_and_description_are_those_that_were_saved) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  save_example(world(), root, 20);
  EXPECT_TRUE(loads_back(world(), root, 10));
  EXPECT_TRUE(loads_back(world(), root, 20));
}

// Replicas hold the same bits: the first one writes them, all read them.
TEST(Load, replicas_read_what_the_first_one_wrote) {
  const sharding::MeshShape mesh{.replicate = world().size(), .shard = 1, .sequence = 1, .tensor = 1};
  fs::path root = fresh_folder(world());
  Example example(0, 1, 10);
  Description description = example_description(10, world().size());
  description.mesh = mesh;
  const auto parts = world().rank() == 0 ? example.to_save() : std::vector<LocalPart>{};
  save(world(), root / step_folder_name(10), description, parts);
  Example loaded = example;
  loaded.clear();

  load(world(), root / step_folder_name(10), mesh, loaded.to_load());

  EXPECT_EQ(loaded.bytes, example.bytes);
  for (const Part& part : read_manifest(root / step_folder_name(10)).parts) EXPECT_EQ(part.rank, 0);
}

TEST(Load, another_mesh_is_a_config_error_that_names_the_one_that_wrote) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  Example example(world().rank(), world().size(), 10);
  sharding::MeshShape mesh{.replicate = 2, .shard = world().size(), .sequence = 1, .tensor = 1};

  Error error = error_of([&] { load(world(), root / "step_00000010", mesh, example.to_load()); });

  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_TRUE(contains(error.what(), "was written on the mesh " + example_mesh(world().size()).to_string()))
      << error.what();
}

TEST(Load, part_that_the_checkpoint_lacks_is_a_data_error_on_all_ranks) {
  Error error = error_of_changed_request([](Example& e) { e.keys[2] = "student.gate"; });
  EXPECT_EQ(error.kind(), ErrorKind::kData);
  EXPECT_TRUE(contains(error.what(), "student.")) << error.what();
}

TEST(Load, part_that_nobody_asked_for_is_a_data_error_on_all_ranks) {
  Error error = error_of_changed_request([](Example& e) {
    e.keys.pop_back();
    e.slices.pop_back();
    e.bytes.pop_back();
  });
  EXPECT_EQ(error.kind(), ErrorKind::kData);
  EXPECT_TRUE(contains(error.what(), "fake.master")) << error.what();
}

TEST(Load, part_of_another_size_or_other_slices_is_a_data_error_on_all_ranks) {
  Error size = error_of_changed_request([](Example& e) { e.bytes[1].resize(e.bytes[1].size() + 4); });
  EXPECT_EQ(size.kind(), ErrorKind::kData);
  EXPECT_TRUE(contains(size.what(), "student.moment")) << size.what();
  Error slice = error_of_changed_request([](Example& e) { e.slices[1][0].slice.flat_end -= 1; });
  EXPECT_EQ(slice.kind(), ErrorKind::kData);
  EXPECT_TRUE(contains(slice.what(), "slice 0 is of \"student.moment.w\"")) << slice.what();
  Error count = error_of_changed_request([](Example& e) { e.slices[1].clear(); });
  EXPECT_TRUE(contains(count.what(), "it has 1 slices; expected 0")) << count.what();
}

TEST(Load, damage_of_one_file_is_an_io_error_on_all_ranks) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  std::string file = "rank_0000" + std::to_string(world().size() - 1) + ".student.safetensors";
  if (world().rank() == 0) flip_bit(root / "step_00000010" / file, 9);
  world().barrier();

  Error error = error_of([&] { loads_back(world(), root, 10); });

  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_TRUE(contains(error.what(), file)) << error.what();
  EXPECT_TRUE(contains(error.what(), "block 0 of 1")) << error.what();
}

TEST(Load, missing_checkpoint_is_an_io_error) {
  fs::path root = fresh_folder(world());
  EXPECT_EQ(error_of([&] { loads_back(world(), root, 10); }).kind(), ErrorKind::kIo);
}

}  // namespace
}  // namespace tmd::checkpoint
