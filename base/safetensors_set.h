#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/safetensors.h"

namespace tmd {

/// The tensors of one safetensors file, or of all files that an index names, as one collection.
///
/// An index is JSON: {"metadata": {"total_size": bytes}, "weight_map": {tensor: file}}; the files lie in its
/// folder (Wan 3.3). Thread: reads may run at the same time.
class SafetensorsSet {
 public:
  struct Tensor {
    const SafetensorsFile* file;
    const SafetensorsEntry* entry;
    /// As SafetensorsFile::read.
    void read(uint64_t offset, std::span<std::byte> to) const { file->read(*entry, offset, to); }
  };

  /// `path`: a safetensors file or an index (its name ends in ".json"). Reads headers only. Throws what
  /// SafetensorsFile throws, and kData that names the index, the tensor and the file: an index of more than
  /// 100,000,000 bytes, broken JSON, names that stand twice, no weight_map or an empty one, a file name that
  /// leaves the folder, a file that is missing or not a regular one, a tensor that its file lacks, a tensor
  /// in two files, a tensor of a file that the index does not name. A total_size that is not the sum of the
  /// tensors gives a warning.
  explicit SafetensorsSet(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<SafetensorsFile>& files() const { return files_; }
  /// By name.
  const std::map<std::string, Tensor, std::less<>>& tensors() const { return tensors_; }
  /// Null when there is no such tensor; valid as long as this object.
  const Tensor* find(std::string_view name) const;
  /// Of the first file.
  const SafetensorsMetadata& metadata() const { return files_.front().metadata(); }
  /// Of all tensors.
  uint64_t data_bytes() const;

  // Tensors point into files_, whose elements stay where they are when a set is moved.
  SafetensorsSet(SafetensorsSet&&) = default;
  SafetensorsSet& operator=(SafetensorsSet&&) = default;

 private:
  void read_index();
  void check_against(const std::map<std::string, std::string>& weight_map) const;

  std::filesystem::path path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace tmd
