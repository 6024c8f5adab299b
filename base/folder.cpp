#include "base/folder.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <string>
#include <system_error>
#include <unistd.h>

#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/file.h"

namespace tmd {
namespace fs = std::filesystem;
namespace {

void check_done(const std::error_code& failure, const std::string& tried) {
  check(!failure, ErrorKind::kIo, fmt::format("cannot {}: {}", tried, failure.message()));
}

std::error_code last_failure() { return {errno, std::generic_category()}; }

void sync_tree(const fs::path& folder) {
  for (const fs::path& entry : list_folder(folder)) {
    std::error_code failure;
    bool is_folder = fs::is_directory(entry, failure);
    check_done(failure, "examine " + entry.string());
    if (is_folder) {
      sync_tree(entry);
    } else {
      File::open_to_read(entry).sync();
    }
  }
  sync_folder(folder);
}

}  // namespace

std::filesystem::path plain_path(const std::filesystem::path& path) {
  const std::filesystem::path whole = std::filesystem::absolute(path).lexically_normal();
  return whole.filename().empty() ? whole.parent_path() : whole;
}

void sync_folder(const fs::path& folder) {
  UniqueHandle<int, -1, close_descriptor> handle(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!handle.is_valid()) check_done(last_failure(), "open the folder " + folder.string());
  // Some network file systems refuse to sync folders and keep names safe by themselves.
  if (::fsync(handle.get()) != 0 && errno != EINVAL && errno != ENOTSUP) {
    check_done(last_failure(), "bring to the disk the folder " + folder.string());
  }
}

void create_folders(const fs::path& folder) {
  std::error_code failure;
  fs::create_directories(folder, failure);
  check_done(failure, "create the folder " + folder.string());
}

std::vector<fs::path> list_folder(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code failure;
  for (fs::directory_iterator i(folder, failure), end; !failure && i != end; i.increment(failure)) {
    entries.push_back(i->path());
  }
  if (failure != std::errc::no_such_file_or_directory)
    check_done(failure, "list the folder " + folder.string());
  std::ranges::sort(entries);
  return entries;
}

void rename_durably(const fs::path& from, const fs::path& to) {
  std::error_code failure;
  fs::rename(from, to, failure);
  check_done(failure, fmt::format("rename {} to {}", from.string(), to.string()));
  sync_folder(to.has_parent_path() ? to.parent_path() : fs::path("."));
}

void remove_tree(const fs::path& path) {
  std::error_code failure;
  fs::remove_all(path, failure);
  check_done(failure, "remove " + path.string());
}

void publish_folder(const fs::path& temporary, const fs::path& final_path) {
  sync_tree(temporary);
  rename_durably(temporary, final_path);
}

}  // namespace tmd
