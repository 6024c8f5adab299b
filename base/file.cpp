#include "base/file.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <spdlog/fmt/fmt.h>

#include "base/error.h"

namespace tmd {
namespace {

/// Linux moves at most 2 GiB in one call.
constexpr size_t kLargestTransfer = size_t{1} << 30;

[[noreturn]] void throw_io(const std::string& tried, int reason) {
  std::string hint;
  if (reason == ENOSPC || reason == EDQUOT)
    hint = "free some space on that file system, or choose another folder";
  if (reason == EFBIG) hint = "the size limit of files is too small here (see `ulimit -f`)";
  if (reason == EMFILE) hint = "too many open files (see `ulimit -n`)";
  throw Error(ErrorKind::kIo, fmt::format("{}: {}", tried, std::generic_category().message(reason)), hint);
}

int open_or_throw(const std::filesystem::path& path, int flags, const char* purpose) {
  while (true) {
    int descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
    if (descriptor >= 0) return descriptor;
    if (errno != EINTR) throw_io(fmt::format("cannot open {} {}", path.string(), purpose), errno);
  }
}

std::string range_text(const char* verb, const std::filesystem::path& path, uint64_t offset, size_t size) {
  return fmt::format("cannot {} {}, bytes {} to {}", verb, path.string(), offset, offset + size);
}

}  // namespace

void close_descriptor(int descriptor) noexcept { ::close(descriptor); }

File File::open_to_read(const std::filesystem::path& path) {
  File file(path, open_or_throw(path, O_RDONLY, "to read"));
  struct stat status {};
  if (::fstat(file.descriptor_.get(), &status) != 0) throw_io("cannot examine " + path.string(), errno);
  if (S_ISDIR(status.st_mode)) throw_io("cannot read " + path.string(), EISDIR);
  return file;
}

File File::create(const std::filesystem::path& path) {
  return File(path, open_or_throw(path, O_RDWR | O_CREAT | O_TRUNC, "to write"));
}

File File::open_to_write(const std::filesystem::path& path) {
  return File(path, open_or_throw(path, O_RDWR | O_CREAT, "to write"));
}

std::optional<File> File::open_to_write_directly(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC);
  if (descriptor < 0) return {};
  return File(path, descriptor);
}

uint64_t File::size_bytes() const {
  struct stat status {};
  if (::fstat(descriptor_.get(), &status) != 0) throw_io("cannot examine " + path_.string(), errno);
  return static_cast<uint64_t>(status.st_size);
}

void File::read_at(uint64_t offset, std::span<std::byte> to) const {
  size_t done = 0;
  while (done < to.size()) {
    size_t size = std::min(to.size() - done, kLargestTransfer);
    ssize_t moved = ::pread(descriptor_.get(), to.data() + done, size, static_cast<off_t>(offset + done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) throw_io(range_text("read", path_, offset, to.size()), errno);
    if (moved == 0) {
      throw Error(ErrorKind::kIo, fmt::format("{}: the file ends at byte {}",
                                              range_text("read", path_, offset, to.size()), offset + done));
    }
    done += static_cast<size_t>(moved);
  }
}

void File::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    size_t size = std::min(bytes.size() - done, kLargestTransfer);
    ssize_t moved = ::pwrite(descriptor_.get(), bytes.data() + done, size, static_cast<off_t>(offset + done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) throw_io(range_text("write", path_, offset, bytes.size()), moved < 0 ? errno : ENOSPC);
    done += static_cast<size_t>(moved);
  }
}

bool File::write_directly(uint64_t offset, std::span<const std::byte> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t moved = ::pwrite(descriptor_.get(), bytes.data() + done, bytes.size() - done,
                                   static_cast<off_t>(offset + done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0 && errno == EINVAL && done == 0) return false;
    // A limit that is met in the middle of a block leaves the rest to write_at, which says why it fails.
    if (moved > 0 && moved % static_cast<ssize_t>(kDirectAlignment) != 0) return false;
    if (moved <= 0) throw_io(range_text("write", path_, offset, bytes.size()), moved < 0 ? errno : ENOSPC);
    done += static_cast<size_t>(moved);
  }
  return true;
}

void File::resize(uint64_t size) {
  if (::ftruncate(descriptor_.get(), static_cast<off_t>(size)) != 0)
    throw_io(fmt::format("cannot resize {} to {} bytes", path_.string(), size), errno);
}

void File::sync() {
  if (::fsync(descriptor_.get()) != 0) throw_io("cannot bring to the disk " + path_.string(), errno);
}

void File::close() {
  if (!descriptor_.is_valid()) return;
  // After EINTR the descriptor is gone on Linux: closing again could close somebody else's.
  if (::close(descriptor_.release()) != 0 && errno != EINTR)
    throw_io("cannot close " + path_.string(), errno);
}

}  // namespace tmd
