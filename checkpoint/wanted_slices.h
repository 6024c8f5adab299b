#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "checkpoint/manifest.h"
#include "checkpoint/reader.h"

namespace tmd::checkpoint {

/// One bit for each of a count of things.
class BitSet {
 public:
  explicit BitSet(size_t count) : bytes_((count + 7) / 8) {}
  void set(size_t i) { bytes_[i / 8] |= static_cast<uint8_t>(1U << (i % 8)); }
  static bool test(std::span<const uint8_t> bytes, size_t i) { return (bytes[i / 8] >> (i % 8)) & 1; }
  std::vector<uint8_t>& bytes() { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
};

/// A block of a part of the manifest.
struct BlockId {
  size_t part = 0, block = 0;
};

/// What one rank wants of the parts of a checkpoint, and where it goes.
class WantedSlices {
 public:
  /// Keeps references to `manifest` and `parts`. Throws kData when an element of `parts` is not in the
  /// checkpoint, or a tensor has another type or shape there.
  WantedSlices(const Manifest& manifest, std::span<const PartToLoad> parts,
               const std::filesystem::path& folder);

  /// Bits of all blocks in the order of all_blocks(), and of all slices in the manifest's order: whether this
  /// rank wants some of them.
  BitSet blocks() const;
  BitSet slices() const;

  /// Where the whole block goes as it lies, if part and place have the same slices; else empty.
  std::span<std::byte> place_of(BlockId id) const;
  /// Copies what this rank wants of a block's `bytes` to its places.
  void scatter(BlockId id, std::span<const std::byte> bytes) const;

 private:
  struct Target {
    const PartToLoad* part = nullptr;
    const PlacedSlice* slice = nullptr;
  };
  struct Source {
    std::vector<Target> targets;       // of each slice
    const PartToLoad* twin = nullptr;  // has the same slices at the same places
  };

  void match(const Manifest& manifest, const std::filesystem::path& folder);
  void find_twin(size_t part);

  const Manifest& manifest_;
  std::span<const PartToLoad> parts_;
  std::vector<Source> sources_;  // of each part of the manifest
};

/// Every block of a checkpoint, part by part.
std::vector<BlockId> all_blocks(const Manifest& manifest);

}  // namespace tmd::checkpoint
