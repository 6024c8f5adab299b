#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/streamed_file.h"

namespace tmd {

/// One tensor of a safetensors file: row-major, little-endian, packed.
/// `begin` and `end` are byte offsets in the data part of the file.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;           ///< "F32", "BF16", ... as the format spells it
  std::vector<int64_t> shape;  ///< empty for a scalar
  uint64_t begin = 0;
  uint64_t end = 0;

  uint64_t size_bytes() const { return end - begin; }
  int64_t elements() const {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    return count;
  }
};

using SafetensorsMetadata = std::map<std::string, std::string>;

/// Bits of one element of `dtype`; nothing for a name that the format does not know.
std::optional<uint64_t> safetensors_bits(std::string_view dtype);

/// What stands in front of the data of a safetensors file.
struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  ///< in the order of the data
  SafetensorsMetadata metadata;
};

/// Reads the header `json` of a file with `data_bytes` bytes of data. `file` is used in messages only.
/// Any order of the entries and padding around the JSON are accepted. Throws kData that names the file, the
/// tensor and the offsets for: JSON that is broken or not an object, a name that stands twice, an unknown
/// dtype, a negative or overflowing shape, offsets that do not fit the shape, metadata that are not strings,
/// holes, overlaps, and data that end before or after the last tensor (Wan 3.3).
SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_bytes,
                                           const std::string& file);

/// A safetensors file (https://github.com/huggingface/safetensors) that is open for reading.
/// Errors: kIo when it cannot be opened or read, kData when it breaks a rule of the format (also when the
/// file is shorter or longer than its header says, and for headers of more than 100,000,000 bytes).
/// Thread: reads may run at the same time.
class SafetensorsFile {
 public:
  /// Reads the header only.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const std::vector<SafetensorsEntry>& entries() const { return header_.entries; }
  const SafetensorsMetadata& metadata() const { return header_.metadata; }

  /// Null when there is no such tensor; valid as long as this object.
  const SafetensorsEntry* find(std::string_view name) const;
  /// Throws kData when there is no such tensor.
  const SafetensorsEntry& at(std::string_view name) const;

  /// Fills `to` with the bytes offset .. offset + to.size() of the tensor; kInternal if it is shorter.
  /// `entry` is one of this file.
  void read(const SafetensorsEntry& entry, uint64_t offset, std::span<std::byte> to) const;
  /// The whole tensor.
  std::vector<std::byte> read(const SafetensorsEntry& entry) const;

 private:
  File file_;
  uint64_t data_begin_ = 0;
  SafetensorsHeader header_;
  std::map<std::string, size_t, std::less<>> index_;
};

/// A tensor that is going to be written.
struct SafetensorsDeclaration {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
};

/// Writes a safetensors file that appears as a whole (StreamedFile): the tensors are declared first, so that
/// the header is known; then the bytes of each are appended, in pieces of any size and tensors in any order.
/// In the file wider dtypes come first, so that every tensor is aligned to its elements.
/// Errors: kIo for writing; kInternal for an unknown dtype, a name used twice or called __metadata__, a
/// negative or overflowing shape, a header of more than 100,000,000 bytes, a tensor that was not declared,
/// more bytes than declared, and `finish` before all bytes are there.
/// Thread: one at a time.
class SafetensorsWriter {
 public:
  /// Writes the header.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<SafetensorsDeclaration> tensors,
                    const SafetensorsMetadata& metadata = {});

  /// The next bytes of tensor `name`.
  void append(std::string_view name, std::span<const std::byte> bytes);
  /// Makes the file visible under its name. Call at most once, and nothing after it.
  void finish();

  /// Bytes that the whole file has.
  uint64_t size_bytes() const { return data_begin_ + (entries_.empty() ? 0 : entries_.back().end); }

 private:
  StreamedFile file_;
  std::vector<SafetensorsEntry> entries_;
  std::vector<uint64_t> written_;  ///< bytes so far, per entry
  std::map<std::string, size_t, std::less<>> index_;
  uint64_t data_begin_ = 0;
};

}  // namespace tmd
