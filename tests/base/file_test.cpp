#include "base/file.h"

#include <array>
#include <string>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd {
namespace {
namespace fs = std::filesystem;

fs::path file_of_this_test() {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  return fs::path(testing::TempDir()) /
         (std::string("tmd_file_") + info->name() + std::to_string(::getpid()));
}

template <class Function>
Error error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return Error(ErrorKind::kInternal, "");
}

TEST(File, read_at_returns_what_write_at_wrote) {
  fs::path path = file_of_this_test();
  File file = File::create(path);
  file.write_at(2, std::as_bytes(std::span("xyz", 3)));
  file.sync();
  file.close();

  std::array<char, 5> bytes{};
  File::open_to_read(path).read_at(0, std::as_writable_bytes(std::span(bytes)));

  EXPECT_EQ(std::string(bytes.data(), bytes.size()), std::string("\0\0xyz", 5));
  EXPECT_EQ(File::open_to_read(path).size_bytes(), 5u);
}

TEST(File, read_beyond_the_end_names_the_range_and_the_end) {
  fs::path path = file_of_this_test();
  File file = File::create(path);
  file.write_at(0, std::as_bytes(std::span("abc", 3)));
  std::array<std::byte, 4> bytes{};

  Error error = error_of([&] { file.read_at(1, bytes); });

  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_NE(std::string(error.what()).find("bytes 1 to 5: the file ends at byte 3"), std::string::npos);
}

TEST(File, missing_file_and_folder_are_io_errors) {
  fs::path path = file_of_this_test();
  EXPECT_EQ(error_of([&] { File::open_to_read(path.string() + "_none"); }).kind(), ErrorKind::kIo);
  EXPECT_EQ(error_of([&] { File::open_to_read(testing::TempDir()); }).kind(), ErrorKind::kIo);
  EXPECT_EQ(error_of([&] { File::create(testing::TempDir()); }).kind(), ErrorKind::kIo);
}

}  // namespace
}  // namespace tmd
