#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

#include "base/file.h"

namespace tmd {

/// A file that comes into being as a whole: bytes go to `FINAL.tmp-PID` beside it, and `commit` syncs that,
/// renames it over the final name and syncs the parent folder. A reader of the final name sees the old
/// content or the new one, also after a crash. Destroyed before `commit`, the temporary file is removed.
/// Errors: kIo that names the file. Thread: as File; `commit` alone.
class PublishedFile {
 public:
  /// Creates the temporary file; the folder must exist.
  explicit PublishedFile(const std::filesystem::path& final_path);
  PublishedFile(PublishedFile&& other) noexcept;
  PublishedFile& operator=(PublishedFile&&) = delete;
  ~PublishedFile();

  void write_at(uint64_t offset, std::span<const std::byte> bytes) { file_.write_at(offset, bytes); }
  /// The content is complete and becomes visible. Call at most once, and nothing after it.
  void commit();

  const std::filesystem::path& path() const { return final_path_; }
  /// Where the bytes are until then.
  const std::filesystem::path& temporary_path() const { return file_.path(); }

 private:
  std::filesystem::path final_path_;
  File file_;
  bool is_pending_ = true;
};

/// Writes `bytes` as the whole content of `path`, durably, as PublishedFile does. Throws kIo.
void publish_file(const std::filesystem::path& path, std::span<const std::byte> bytes);
void publish_file(const std::filesystem::path& path, std::string_view text);

/// Bytes that an ordinary user may still write on the file system of `path` (an existing file or folder); the
/// largest uint64 where the file system does not tell. Throws kIo.
uint64_t free_bytes(const std::filesystem::path& path);

}  // namespace tmd
