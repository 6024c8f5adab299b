#include <gtest/gtest.h>

#include "checkpoint/reader.h"
#include "mpi_main.h"
#include "tests/checkpoint/example.h"

namespace tmd::checkpoint {
namespace {
namespace fs = std::filesystem;

using test::world;

MakeParts asking(Example& example) {
  return [&example](const Description&) { return example.to_load(); };
}

/// Saves step 10, lets the last rank change what it asks for, and returns the error of all ranks.
template <class Change>
Error error_of_changed_request(Change change) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  Example example(world().rank(), world().size(), 10);
  if (world().rank() == world().size() - 1) change(example);
  return error_of([&] { load(world(), world(), root / "step_00000010", asking(example)); });
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

  const auto alone = world().split(world().rank(), 0, "replica");
  load(world(), *alone, root / step_folder_name(10), asking(loaded));
  alone->close();

  EXPECT_EQ(loaded.bytes, example.bytes);
  for (const Part& part : read_manifest(root / step_folder_name(10)).parts) EXPECT_EQ(part.rank, 0);
}

TEST(Load, part_that_the_checkpoint_lacks_is_a_data_error_on_all_ranks) {
  Error error = error_of_changed_request([](Example& e) { e.keys[2] = "student.gate"; });
  EXPECT_EQ(error.kind(), ErrorKind::kData);
  EXPECT_TRUE(contains(error.what(), "student.")) << error.what();
}

TEST(Load, part_that_nobody_asked_for_is_a_data_error_on_all_ranks) {
  Error error = error_of_changed_request([](Example& e) {
    e.keys.erase(e.keys.begin() + 2);
    e.slices.erase(e.slices.begin() + 2);
    e.bytes.erase(e.bytes.begin() + 2);
  });
  EXPECT_EQ(error.kind(), ErrorKind::kData);
  EXPECT_TRUE(contains(error.what(), "student.ema of student.ema.w, which this run has no place for"))
      << error.what();
}

TEST(Load, tensor_of_another_shape_or_type_is_a_data_error_on_all_ranks) {
  Error shape = error_of_changed_request([](Example& e) { e.slices[1][0].slice.full_shape.push_back(1); });
  EXPECT_EQ(shape.kind(), ErrorKind::kData);
  EXPECT_TRUE(contains(shape.what(), "student.moment: student.moment.w is F32 [")) << shape.what();
  Error name = error_of_changed_request([](Example& e) { e.slices[1][0].slice.name = "other"; });
  EXPECT_EQ(name.kind(), ErrorKind::kData);
  EXPECT_TRUE(contains(name.what(), "elements alone of student.moment: other")) << name.what();
}

// Of a slice that lies elsewhere only the elements count.
TEST(Load, padding_may_lie_elsewhere) {
  fs::path root = fresh_folder(world());
  save_example(world(), root, 10);
  Example example(world().rank(), world().size(), 10), moved = example;
  moved.clear();
  for (size_t i = 0; i < moved.bytes.size(); ++i) {
    moved.bytes[i].insert(moved.bytes[i].begin(), 8, std::byte{0});
    moved.slices[i][0].byte_offset = 8;
  }

  load(world(), world(), root / step_folder_name(10), asking(moved));

  for (size_t i = 0; i < moved.bytes.size(); ++i) {
    const size_t size = static_cast<size_t>(example.slices[i][0].slice.elements()) * 4;
    EXPECT_TRUE(std::equal(example.bytes[i].begin(), example.bytes[i].begin() + static_cast<int64_t>(size),
                           moved.bytes[i].begin() + 8));
  }
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
