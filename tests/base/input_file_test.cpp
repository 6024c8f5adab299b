#include "base/input_file.h"

#include <fstream>

#include <gtest/gtest.h>

#include "../data/temporary_folder.h"
#include "../support/error_of.h"
#include "base/error.h"

namespace tmd {

TEST(InputFile, what_is_not_there_or_no_file_is_bad_input) {
  const data::TemporaryFolder folder;
  const Error absent = test::error_of([&] { input_file(folder / "absent"); });
  EXPECT_EQ(absent.kind(), ErrorKind::kData);
  EXPECT_NE(std::string(absent.what()).find("no such file"), std::string::npos);
  EXPECT_EQ(test::error_of([&] { input_file(folder.path()); }).kind(), ErrorKind::kData);
  const std::filesystem::path file = folder / "file";
  std::ofstream(file) << "x";
  EXPECT_EQ(&input_file(file), &file);
}

}  // namespace tmd
