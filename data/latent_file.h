#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/hdf5.h"
#include "data/latent_header.h"
#include "data/sample.h"

namespace tmd::data {

/// Bytes of one sample as they lie in the file; reuse one object to keep its memory.
struct StoredSample {
  std::vector<std::byte> latent;  ///< C*T*H*W elements of header().latent_type; empty in a list of prompts
  std::vector<std::byte> text;    ///< S*E elements of header().text_type

  /// XXH3-64 of the latent's and then the text's bytes: what /checksum holds.
  uint64_t checksum() const;
};

/// Reader of one tmd-latents file. Takes what h5py writes by default (contiguous, chunked; compressed with a
/// warning). Nothing is verified per sample here: DataSet does. Thread: one at a time per object.
class LatentFile {
 public:
  /// Opens, validates, and reads text lengths and checksums. Throws as Hdf5File::open and read_latent_header,
  /// kData also when /text_length holds no integers, kIo when reading fails.
  explicit LatentFile(const std::filesystem::path& path);

  const LatentHeader& header() const { return header_; }
  const std::filesystem::path& path() const { return file_.path(); }
  /// "clips.h5 sample 17", for messages.
  std::string sample_name(int64_t index) const;

  // `index` is a row, 0 to N - 1.
  /// Throws kIo when HDF5 cannot read the rows, kInternal for another index.
  void read_stored(int64_t index, StoredSample& out) const;
  /// `stored`, read for `index`, as float32 tensors that own their memory; the prompt is read from the file.
  /// Throws kIo when it cannot be, kInternal when `stored` has another size.
  Sample convert(int64_t index, const StoredSample& stored, WithPrompt prompt = WithPrompt::kYes) const;
  /// Both of the above.
  Sample read_sample(int64_t index) const;

  /// Throws kInternal unless header().has_checksum.
  uint64_t stored_checksum(int64_t index) const;
  /// Of the stored bytes, which it reads: throws as read_stored.
  uint64_t compute_checksum(int64_t index) const;

  /// As stored; may lie outside [0, S] in a bad file.
  int64_t text_length(int64_t index) const { return text_lengths_[index]; }
  /// [S, E] float32. Throws kData: none (with a hint), a length outside [0, S], values that are not finite,
  /// non-zero rows beyond the length, another element type; kIo when it cannot be read.
  TextEmbedding negative_text() const;

 private:
  Hdf5File file_;
  LatentHeader header_;
  std::optional<Hdf5Dataset> latents_, prompts_;
  Hdf5Dataset text_;
  std::vector<int64_t> text_lengths_;  // [N]
  std::vector<uint64_t> checksums_;    // [N] or empty
};

}  // namespace tmd::data
