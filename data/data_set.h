#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "data/latent_file.h"

namespace tmd::data {

/// A sample that must not be trained on: an expected outcome, the caller quarantines it.
struct BadSample {
  std::string name;     ///< "FILE sample 17"
  std::string problem;  ///< "checksum 00000000000000a1 stored, 00000000000000b2 computed"
};
using ReadResult = std::variant<Sample, BadSample>;

/// Where a global sample index lies.
struct SamplePlace {
  int64_t file = 0;  ///< index into DataSet::files()
  int64_t row = 0;   ///< row of that file
};

/// Files of a set in their stated order: each entry is a file name, taken unseen, or a glob (* ? [); the
/// matches of one glob are sorted by name. Throws kData when a glob matches nothing or `patterns` is empty.
std::vector<std::filesystem::path> resolve_files(std::span<const std::string> patterns);

/// One or several tmd-latents files as one list of samples: first all rows of the first file, and so on.
/// Thread: one at a time per object.
class DataSet {
 public:
  /// Opens every file. Throws kData: no files, files that disagree in latent or text shape, codec, mean and
  /// std, text encoder, or in having latents; and what LatentFile throws.
  explicit DataSet(const std::vector<std::filesystem::path>& files);

  int64_t size() const { return size_; }
  /// Of the first file; its `samples` counts that file alone.
  const LatentHeader& header() const { return files_.front().header(); }
  const std::vector<LatentFile>& files() const { return files_; }

  // Each throws kInternal outside [0, size()).
  SamplePlace place(int64_t index) const;
  std::string sample_name(int64_t index) const;
  /// What the sample was generated from; nothing for one whose file does not say so. No reading.
  std::optional<NoiseOf> noise_of(int64_t index) const;

  /// Reads and verifies: checksum (when the file is sealed), finite values, text length within [0, S], zero
  /// rows beyond it. What is wrong with a sample, or the error of reading it twice, is returned and not
  /// thrown. The tensors own their memory. Throws kInternal outside [0, size()).
  ReadResult read(int64_t index, WithPrompt prompt = WithPrompt::kYes);

  bool has_negative_text() const { return header().has_negative_text; }
  /// Of the first file; read anew each time. Throws as LatentFile::negative_text.
  TextEmbedding negative_text() const { return files_.front().negative_text(); }

  /// Identifies the content: header and size of every file, the noise of its samples if it says so, and the
  /// checksum of its first and last sample. Does not depend on names, layout or sealing. Takes the checksums
  /// of a sealed file, reads two samples of another one; throws kIo.
  uint64_t data_hash() const;

 private:
  ReadResult read_once(int64_t index, WithPrompt prompt);

  std::vector<LatentFile> files_;
  std::vector<int64_t> begins_;  // global index of each file's first sample
  int64_t size_ = 0;
  StoredSample scratch_;  // keeps its memory between reads
};

}  // namespace tmd::data
