#include "base/publish.h"

#include <fstream>
#include <iterator>
#include <signal.h>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd {
namespace {
namespace fs = std::filesystem;

/// An empty folder of this test case.
fs::path fresh_folder() {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  fs::path folder = fs::path(testing::TempDir()) / (std::string("tmd_") + info->test_suite_name() + "_" +
                                                    info->name() + std::to_string(::getpid()));
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

std::string content(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

size_t count_files(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

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

TEST(PublishFile, new_file_has_the_content_and_nothing_beside_it) {
  fs::path folder = fresh_folder();

  publish_file(folder / "a.txt", "hello");

  EXPECT_EQ(content(folder / "a.txt"), "hello");
  EXPECT_EQ(count_files(folder), 1u);
}

TEST(PublishFile, existing_file_is_replaced_as_a_whole) {
  fs::path folder = fresh_folder();
  publish_file(folder / "a.txt", "a long first text");

  publish_file(folder / "a.txt", "short");

  EXPECT_EQ(content(folder / "a.txt"), "short");
}

TEST(PublishFile, no_such_folder_is_an_io_error_with_the_name) {
  fs::path folder = fresh_folder();

  Error error = error_of([&] { publish_file(folder / "none" / "a.txt", "x"); });

  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_NE(std::string(error.what()).find("none/a.txt"), std::string::npos) << error.what();
}

TEST(PublishFile, full_disk_keeps_the_old_file_and_removes_the_partial_one) {
  fs::path folder = fresh_folder();
  publish_file(folder / "a.bin", "old");
  std::vector<std::byte> large(200'000);

  Error error = [&] {
    FileSizeLimit limit(100'000);
    return error_of([&] { publish_file(folder / "a.bin", large); });
  }();

  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_NE(std::string(error.what()).find("a.bin"), std::string::npos) << error.what();
  EXPECT_FALSE(error.hint().empty());
  EXPECT_EQ(content(folder / "a.bin"), "old");
  EXPECT_EQ(count_files(folder), 1u);
}

TEST(PublishedFile, destroyed_before_commit_leaves_nothing) {
  fs::path folder = fresh_folder();
  {
    PublishedFile file(folder / "a.txt");
    file.write_at(0, std::as_bytes(std::span("abc", 3)));
    EXPECT_EQ(count_files(folder), 1u);
    EXPECT_FALSE(fs::exists(folder / "a.txt"));
  }
  EXPECT_EQ(count_files(folder), 0u);
}

TEST(PublishedFile, moved_from_object_removes_nothing) {
  fs::path folder = fresh_folder();
  PublishedFile first(folder / "a.txt");
  first.write_at(0, std::as_bytes(std::span("abc", 3)));
  {
    PublishedFile second(std::move(first));
    second.commit();
  }
  EXPECT_EQ(content(folder / "a.txt"), "abc");
}

TEST(FreeBytes, existing_folder_has_some_and_missing_one_is_an_error) {
  fs::path folder = fresh_folder();
  EXPECT_GT(free_bytes(folder), 0u);
  EXPECT_EQ(error_of([&] { free_bytes(folder / "none"); }).kind(), ErrorKind::kIo);
}

}  // namespace
}  // namespace tmd
