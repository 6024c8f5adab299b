#include "checkpoint/part_file.h"

#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/folder.h"

namespace tmd::checkpoint {
namespace {
namespace fs = std::filesystem;

/// A part of two and a half blocks in a folder of its own.
struct Fixture {
  fs::path folder;
  std::vector<std::byte> bytes = std::vector<std::byte>(kBlockBytes * 5 / 2);
  Part part;

  Fixture() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    folder =
        fs::path(testing::TempDir()) / (std::string("tmd_part_") + info->name() + std::to_string(::getpid()));
    remove_tree(folder);
    create_folders(folder);
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / 251);
    part = {.key = "student.master",
            .dtype = "F32",
            .rank = 0,
            .file = part_file_name(0, group_of("student.master")),
            .tensor = "student.master",
            .size_bytes = bytes.size(),
            .slices = {},
            .block_hashes = block_hashes(bytes)};
    SafetensorsWriter writer(folder / part.file,
                             {{part.tensor, "F32", {static_cast<int64_t>(bytes.size() / 4)}}});
    writer.append(part.tensor, bytes);
    writer.finish();
  }
  ~Fixture() { remove_tree(folder); }

  /// Flips one bit of the tensor in the file.
  void damage(uint64_t offset) {
    uint64_t header = fs::file_size(folder / part.file) - bytes.size();
    std::fstream stream(folder / part.file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(header + offset));
    stream.put(static_cast<char>(bytes[offset] ^ std::byte{4}));
  }

  std::string message_of_verify() {
    try {
      verify_part(folder, part);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kIo);
      EXPECT_NE(std::string(error.what()).find(part.file), std::string::npos) << error.what();
      return error.what();
    }
    return {};
  }
};

TEST(PartFile, name_holds_rank_and_group) {
  EXPECT_EQ(part_file_name(3, group_of("student.master")), "rank_00003.student.safetensors");
  EXPECT_EQ(group_of("ema"), "ema");
}

TEST(PartFile, hashes_are_one_per_block) {
  EXPECT_TRUE(block_hashes({}).empty());
  std::vector<std::byte> bytes(kBlockBytes + 1);
  EXPECT_EQ(block_hashes(bytes).size(), 2u);
  EXPECT_EQ(block_hashes(std::span(bytes).first(kBlockBytes)).size(), 1u);
}

TEST(PartFile, intact_part_verifies_and_reads_back) {
  Fixture f;
  std::vector<std::byte> read(f.bytes.size());

  read_verified(open_part_file(f.folder, f.part), f.part, read);

  EXPECT_EQ(f.message_of_verify(), "");
  EXPECT_EQ(read, f.bytes);
}

TEST(PartFile, flipped_bit_names_its_block) {
  for (size_t block : {0, 1, 2}) {
    Fixture f;
    f.damage(block * kBlockBytes + 17);
    std::string expected = "tensor \"student.master\", block " + std::to_string(block) + " of 3 (bytes " +
                           std::to_string(block * kBlockBytes) + " to ";
    EXPECT_NE(f.message_of_verify().find(expected), std::string::npos) << f.message_of_verify();
    std::vector<std::byte> read(f.bytes.size());
    EXPECT_THROW(read_verified(open_part_file(f.folder, f.part), f.part, read), Error);
  }
}

TEST(PartFile, truncated_file_is_damage) {
  Fixture f;
  fs::resize_file(f.folder / f.part.file, fs::file_size(f.folder / f.part.file) - 1);
  EXPECT_NE(f.message_of_verify().find("truncated"), std::string::npos) << f.message_of_verify();
}

TEST(PartFile, missing_file_and_missing_tensor_are_damage) {
  Fixture f;
  f.part.tensor = "student.moment";
  EXPECT_NE(f.message_of_verify().find("student.moment"), std::string::npos);
  fs::remove(f.folder / f.part.file);
  EXPECT_NE(f.message_of_verify(), "");
}

TEST(PartFile, other_size_or_type_than_the_manifest_says_is_damage) {
  Fixture f;
  f.part.dtype = "BF16";
  EXPECT_NE(f.message_of_verify().find("BF16"), std::string::npos);
  f.part.dtype = "F32";
  f.part.size_bytes -= 4;
  EXPECT_NE(f.message_of_verify(), "");
}

}  // namespace
}  // namespace tmd::checkpoint
