#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>

#include "base/file.h"
#include "base/publish.h"

namespace tmd {

/// A PublishedFile that is written mostly from its begin to its end, in large amounts that nobody reads soon.
/// Where the file system can, bytes go to the device past the page cache, which costs the processor little
/// and pushes nothing else out of memory. Errors and thread: as PublishedFile; `write_at` and `commit` throw
/// what writing meets, perhaps for bytes of an earlier call.
class StreamedFile {
 public:
  explicit StreamedFile(const std::filesystem::path& final_path);

  /// Consecutive calls that follow each other in the file are joined.
  void write_at(uint64_t offset, std::span<const std::byte> bytes);
  /// As PublishedFile::commit.
  void commit();

 private:
  struct Free {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };

  void flush();
  void write_block(uint64_t offset, std::span<const std::byte> bytes);

  PublishedFile file_;
  std::optional<File> direct_;  // the same file, past the page cache; nothing where that is not possible
  std::unique_ptr<std::byte, Free> buffer_;
  uint64_t begin_ = 0;          // of the buffer in the file, a multiple of File::kDirectAlignment
  size_t from_ = 0, fill_ = 0;  // bytes of the buffer that hold something
};

}  // namespace tmd
