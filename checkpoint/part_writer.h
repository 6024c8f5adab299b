#pragma once

#include <cstddef>
#include <deque>
#include <filesystem>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/anonymous_memory.h"
#include "base/device_reader.h"
#include "base/safetensors.h"
#include "checkpoint/manifest.h"
#include "checkpoint/writer.h"

namespace tmd::checkpoint {

/// Writes the parts of one rank from memory that may be about to change.
/// Thread: `write` on one, everything else on another.
class PartWriter {
 public:
  /// Throws kInternal for keys that are used twice or give no file name, and slices that do not fit.
  PartWriter(int rank, std::vector<LocalPart> parts);

  /// Copies the parts of `groups`, which are going to change soon, but the first bytes, with which the
  /// writing begins; then writes one file for each group into `folder`, `groups` first, block by block, and
  /// syncs them when the last byte is written. Throws kIo, also when it was cancelled.
  void write(const std::filesystem::path& folder, const std::vector<std::string>& groups);

  /// Copies what is not written yet of the parts of `group`.
  void keep(const std::string& group);
  /// `write` ends soon, with an error.
  void cancel();

  /// What was written, with the hashes. After `write`.
  const std::vector<Part>& written() const { return written_; }

 private:
  struct Source {
    LocalPart part;
    uint64_t done = 0;     // bytes that are written
    AnonymousMemory copy;  // of the bytes copy_begin .. copy_end
    uint64_t copy_begin = 0, copy_end = 0;
  };

  void copy_out(const Source& source, uint64_t offset, std::span<std::byte> to);
  bool copy_block(Source& source);
  uint64_t copy_in_pieces(const std::string& group, uint64_t left_out);
  std::vector<std::string> groups(const std::vector<std::string>& first) const;
  void write_group(const std::filesystem::path& folder, const std::string& group,
                   std::deque<SafetensorsWriter>& files);
  std::span<const std::byte> take_block(Source& source, std::span<std::byte> staging);

  const int rank_;
  std::mutex mutex_;                    // guards sources_, reader_ and is_cancelled_
  std::optional<DeviceReader> reader_;  // where parts lie on a device
  std::vector<Source> sources_;
  bool is_cancelled_ = false;
  std::vector<Part> written_;
};

}  // namespace tmd::checkpoint
