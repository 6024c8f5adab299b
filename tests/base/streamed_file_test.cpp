#include "base/streamed_file.h"

#include <cstdint>
#include <random>
#include <unistd.h>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/folder.h"

namespace tmd {
namespace {

namespace fs = std::filesystem;

std::vector<std::byte> content(size_t size) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 + i / 257);
  return bytes;
}

std::vector<std::byte> read_all(const fs::path& path) {
  const File file = File::open_to_read(path);
  std::vector<std::byte> bytes(file.size_bytes());
  file.read_at(0, bytes);
  return bytes;
}

fs::path scratch(const fs::path& folder, const char* name) {
  return folder / ("tmd_streamed_" + std::to_string(getpid()) + name);
}

}  // namespace

// On the disk and on a file system in memory, which may not know direct writes.
TEST(StreamedFile, pieces_of_any_size_make_the_file) {
  for (const fs::path& folder : {fs::path(testing::TempDir()), fs::path("/dev/shm")}) {
    for (const size_t size :
         {size_t{0}, size_t{1}, size_t{4095}, size_t{4096}, size_t{1} << 20, (size_t{3} << 20) + 5001}) {
      const std::vector<std::byte> whole = content(size);
      const fs::path path = scratch(folder, "pieces");
      StreamedFile file(path);
      std::mt19937 random(7);
      for (size_t at = 0; at < size;) {
        const size_t count = std::min<size_t>(size - at, 1 + random() % 700'000);
        file.write_at(at, std::span(whole).subspan(at, count));
        at += count;
      }
      EXPECT_FALSE(fs::exists(path));
      file.commit();
      EXPECT_EQ(read_all(path), whole) << size << " bytes in " << folder;
      remove_tree(path);
    }
  }
}

TEST(StreamedFile, ranges_in_any_order_make_the_file) {
  const std::vector<std::byte> whole = content(3'000'000);
  const std::vector<size_t> cuts = {0, 10, 4096, 5000, 1'048'576, 1'100'001, 2'999'999, 3'000'000};
  const std::vector<size_t> order = {3, 0, 6, 1, 5, 2, 4};
  const fs::path path = scratch(testing::TempDir(), "ranges");
  StreamedFile file(path);
  for (size_t i : order) {
    const size_t begin = cuts[i], count = cuts[i + 1] - begin;
    file.write_at(begin, std::span(whole).subspan(begin, count / 2));
    file.write_at(begin + count / 2, std::span(whole).subspan(begin + count / 2, count - count / 2));
  }
  file.commit();
  EXPECT_TRUE(read_all(path) == whole);
  remove_tree(path);
}

TEST(StreamedFile, folder_that_is_gone_is_an_io_error) {
  const fs::path folder = scratch(testing::TempDir(), "gone");
  create_folders(folder);
  StreamedFile file(folder / "x");
  remove_tree(folder);
  file.write_at(0, content(5'000'000));
  EXPECT_THROW(file.commit(), Error);
}

}  // namespace tmd
