#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <utility>

#include "base/unique_handle.h"

namespace tmd {

/// For UniqueHandle: what closing reports is lost.
void close_descriptor(int descriptor) noexcept;

/// One open file of the operating system, read and written at byte offsets.
/// Errors: every function throws kIo that names the file, the range and the system's reason; a read that
/// meets the end of the file is one of them, and so is a write beyond the free space or the size limit.
/// Thread: reads and writes at different offsets may run at the same time.
class File {
 public:
  /// A folder is refused (kIo).
  static File open_to_read(const std::filesystem::path& path);
  /// Creates the file, or empties an existing one.
  static File create(const std::filesystem::path& path);
  /// Keeps the content of an existing file, or creates an empty one.
  static File open_to_write(const std::filesystem::path& path);

  /// An existing file for write_directly; nothing where the file system cannot.
  static std::optional<File> open_to_write_directly(const std::filesystem::path& path);
  /// Of offsets, sizes and addresses in write_directly.
  static constexpr size_t kDirectAlignment = 4096;

  const std::filesystem::path& path() const { return path_; }
  uint64_t size_bytes() const;

  /// Fills `to` from the bytes offset .. offset + to.size().
  void read_at(uint64_t offset, std::span<std::byte> to) const;
  /// A range beyond the end makes the file longer.
  void write_at(uint64_t offset, std::span<const std::byte> bytes);

  /// As write_at, past the page cache; all that is given is aligned. False when the file system refuses that
  /// for these bytes: write_at has to write them then. Only for files of open_to_write_directly.
  bool write_directly(uint64_t offset, std::span<const std::byte> bytes);

  /// Cuts the file off, or fills it with zeros, at `size` bytes.
  void resize(uint64_t size);

  /// Returns when the content has reached the device.
  void sync();
  /// Closes and reports what the file system kept back until now (quota, network file systems). May be called
  /// again; the other functions throw after it.
  void close();

 private:
  using Descriptor = UniqueHandle<int, -1, close_descriptor>;
  File(std::filesystem::path path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}

  std::filesystem::path path_;
  Descriptor descriptor_;
};

}  // namespace tmd
