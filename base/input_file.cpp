#include "base/input_file.h"

#include <system_error>

#include "base/error.h"
#include "base/printable.h"

namespace tmd {

const std::filesystem::path& input_file(const std::filesystem::path& file) {
  std::error_code failure;  // what cannot be examined does not exist for us
  const auto status = std::filesystem::status(file, failure);
  check(std::filesystem::exists(status), ErrorKind::kData, printable(file.string()) + ": no such file");
  check(!std::filesystem::is_directory(status), ErrorKind::kData,
        printable(file.string()) + " is a folder, not a file");
  return file;
}

}  // namespace tmd
