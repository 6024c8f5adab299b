#include "checkpoint/part_file.h"

#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/folder.h"

namespace tmd::checkpoint {
namespace {
namespace fs = std::filesystem;

/// A part of two and a half blocks in a folder of its own.
std::vector<uint64_t> block_hashes(std::span<const std::byte> bytes) {
  std::vector<uint64_t> hashes;
  for (size_t begin = 0; begin < bytes.size(); begin += kBlockBytes) {
    hashes.push_back(xxh3_64(bytes.subspan(begin, std::min<size_t>(kBlockBytes, bytes.size() - begin))));
  }
  return hashes;
}

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

  std::vector<std::byte> read_all() const {
    const SafetensorsFile file = open_part_file(folder, part);
    std::vector<std::byte> read(part.size_bytes);
    for (size_t block = 0; block < part.block_hashes.size(); ++block) {
      read_block(file, part, block, std::span(read).subspan(block * kBlockBytes, block_size(part, block)));
    }
    return read;
  }

  std::string message_of_verify() {
    try {
      read_all();
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

TEST(PartFile, intact_part_verifies_and_reads_back) {
  Fixture f;
  EXPECT_EQ(f.message_of_verify(), "");
  EXPECT_EQ(f.read_all(), f.bytes);
}

TEST(PartFile, flipped_bit_names_its_block) {
  for (size_t block : {0, 1, 2}) {
    Fixture f;
    f.damage(block * kBlockBytes + 17);
    std::string expected = "tensor \"student.master\", block " + std::to_string(block) + " of 3 (bytes " +
                           std::to_string(block * kBlockBytes) + " to ";
    EXPECT_NE(f.message_of_verify().find(expected), std::string::npos) << f.message_of_verify();
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
