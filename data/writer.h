#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/hdf5.h"
#include "data/latent_header.h"
#include "data/sample.h"

namespace tmd::data {

/// Writes one tmd-latents file of a known number of samples, one chunk per sample. The bytes go to
/// `PATH.tmp-PID` beside it; finish() syncs and renames, so that a file of the final name is complete.
/// Destroyed before finish(), the temporary file is removed. Thread: one at a time.
class LatentWriter {
 public:
  /// `header` decides everything: element types, and by its flags whether latents, prompts, negative text and
  /// checksums are written. Throws kIo, kInternal for a header without samples, text or C means and stds.
  LatentWriter(const std::filesystem::path& path, LatentHeader header);
  LatentWriter(const LatentWriter&) = delete;
  LatentWriter& operator=(const LatentWriter&) = delete;
  ~LatentWriter();

  /// Writes row `index`; tensors of any floating type, shapes as the header says. Each row is written once,
  /// in any order. Throws kData when a value does not fit the stored type (not finite after conversion), kIo,
  /// kInternal for a row out of range or written already, another shape, a text length outside [0, S].
  void write(int64_t index, const Sample& sample);
  /// Once, when the header promises one (kInternal otherwise). Throws as write.
  void write_negative_text(const TextEmbedding& negative);
  /// An extra data set [N, columns] of int32 that readers of the format ignore, e.g. labels. Throws kIo,
  /// kInternal for another count of values.
  void write_integers(const std::string& name, int64_t columns, std::span<const int32_t> values);

  /// Makes the file visible under its name; replaces one of the same name. Once. Throws kInternal when rows
  /// or the negative text are missing, kIo.
  void finish();

 private:
  std::filesystem::path path_, temporary_;
  LatentHeader header_;
  Hdf5File file_;
  std::optional<Hdf5Dataset> latents_, text_;
  std::vector<int32_t> text_lengths_;  // [N], -1: row not written
  std::vector<std::string> prompts_;   // [N] or empty
  std::vector<uint64_t> checksums_;    // [N] or empty
  bool has_written_negative_ = false;
  bool is_finished_ = false;
};

/// Adds /checksum to an existing file, in place, after all samples have been read (not verified). Returns the
/// number of samples. Throws kData when the file is no tmd-latents file or is sealed already, kIo.
int64_t seal_file(const std::filesystem::path& path);

}  // namespace tmd::data
