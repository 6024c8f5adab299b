#include "base/publish.h"

#include <cerrno>
#include <limits>
#include <string>
#include <sys/statvfs.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/folder.h"

namespace tmd {
namespace fs = std::filesystem;
namespace {

fs::path temporary_name(const fs::path& final_path) {
  return fs::path(fmt::format("{}.tmp-{}", final_path.string(), ::getpid()));
}

}  // namespace

PublishedFile::PublishedFile(const fs::path& final_path)
    : final_path_(final_path), file_(File::create(temporary_name(final_path))) {}

PublishedFile::PublishedFile(PublishedFile&& other) noexcept
    : final_path_(std::move(other.final_path_)),
      file_(std::move(other.file_)),
      is_pending_(std::exchange(other.is_pending_, false)) {}

PublishedFile::~PublishedFile() {
  std::error_code ignored;  // a file that stays behind is cleared away at the next start
  if (is_pending_) fs::remove(file_.path(), ignored);
}

void PublishedFile::commit() {
  file_.sync();
  file_.close();
  rename_durably(file_.path(), final_path_);
  is_pending_ = false;
}

void publish_file(const fs::path& path, std::span<const std::byte> bytes) {
  PublishedFile file(path);
  file.write_at(0, bytes);
  file.commit();
}

void publish_file(const fs::path& path, std::string_view text) {
  publish_file(path, std::as_bytes(std::span(text)));
}

uint64_t free_bytes(const fs::path& path) {
  struct statvfs status {};
  if (::statvfs(path.c_str(), &status) != 0) {
    throw Error(ErrorKind::kIo, fmt::format("cannot ask for the free space at {}: {}", path.string(),
                                            std::generic_category().message(errno)));
  }
  if (status.f_blocks == 0) return std::numeric_limits<uint64_t>::max();
  return static_cast<uint64_t>(status.f_bavail) * status.f_frsize;
}

}  // namespace tmd
