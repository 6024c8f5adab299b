#include "base/folder.h"

#include <fstream>
#include <iterator>
#include <string>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/publish.h"

namespace tmd {
namespace {
namespace fs = std::filesystem;

/// An empty folder of this test case.
fs::path fresh_folder() {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  fs::path folder =
      fs::path(testing::TempDir()) / (std::string("tmd_folder_") + info->name() + std::to_string(::getpid()));
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

std::string content(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
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

TEST(Folder, a_plain_path_is_absolute_and_has_one_spelling) {
  for (const char* spelling : {"/a/b", "/a/b/", "/a/./b//", "/a/c/../b/"})
    EXPECT_EQ(plain_path(spelling), "/a/b");
  EXPECT_EQ(plain_path("x/"), fs::current_path() / "x");
  EXPECT_EQ(plain_path("/"), "/");
}

TEST(Folder, list_is_sorted_and_empty_for_a_missing_folder) {
  fs::path folder = fresh_folder();
  for (const char* name : {"b", "c", "a"}) publish_file(folder / name, "x");

  EXPECT_EQ(list_folder(folder), (std::vector<fs::path>{folder / "a", folder / "b", folder / "c"}));
  EXPECT_TRUE(list_folder(folder / "none").empty());
  EXPECT_EQ(error_of([&] { list_folder(folder / "a"); }).kind(), ErrorKind::kIo);
}

TEST(Folder, remove_tree_takes_the_content_along_and_accepts_a_missing_path) {
  fs::path folder = fresh_folder();
  create_folders(folder / "x" / "y");
  publish_file(folder / "x" / "y" / "a", "1");

  remove_tree(folder / "x");
  remove_tree(folder / "x");

  EXPECT_TRUE(list_folder(folder).empty());
}

TEST(Folder, failures_are_io_errors_that_name_the_path) {
  fs::path folder = fresh_folder();
  publish_file(folder / "a", "1");
  EXPECT_EQ(error_of([&] { sync_folder(folder / "none"); }).kind(), ErrorKind::kIo);
  EXPECT_EQ(error_of([&] { create_folders(folder / "a" / "b"); }).kind(), ErrorKind::kIo);
  Error error = error_of([&] { rename_durably(folder / "none", folder / "b"); });
  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_NE(std::string(error.what()).find((folder / "none").string()), std::string::npos);
}

TEST(PublishFolder, appears_under_the_final_name_with_all_files) {
  fs::path folder = fresh_folder();
  fs::create_directories(folder / "work" / "inner");
  publish_file(folder / "work" / "a", "1");
  publish_file(folder / "work" / "inner" / "b", "2");

  publish_folder(folder / "work", folder / "final");

  EXPECT_FALSE(fs::exists(folder / "work"));
  EXPECT_EQ(content(folder / "final" / "inner" / "b"), "2");
}

TEST(PublishFolder, taken_name_is_an_io_error_and_both_folders_stay) {
  fs::path folder = fresh_folder();
  fs::create_directories(folder / "work");
  fs::create_directories(folder / "final");
  publish_file(folder / "final" / "a", "old");

  Error error = error_of([&] { publish_folder(folder / "work", folder / "final"); });

  EXPECT_EQ(error.kind(), ErrorKind::kIo);
  EXPECT_EQ(content(folder / "final" / "a"), "old");
  EXPECT_TRUE(fs::exists(folder / "work"));
}

TEST(PublishFolder, missing_folder_is_an_io_error) {
  fs::path folder = fresh_folder();
  EXPECT_EQ(error_of([&] { publish_folder(folder / "none", folder / "final"); }).kind(), ErrorKind::kIo);
}

}  // namespace
}  // namespace tmd
