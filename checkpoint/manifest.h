#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "sharding/mesh.h"
#include "sharding/slice.h"

namespace tmd::checkpoint {

constexpr const char* kFormatName = "tmd-checkpoint";
constexpr int kFormatVersion = 1;
constexpr const char* kManifestName = "manifest.json";
constexpr uint64_t kBlockBytes = uint64_t{1} << 20;

/// Elements of a named tensor and where they lie in a part.
struct PlacedSlice {
  sharding::Slice slice;
  uint64_t byte_offset = 0;  ///< from the begin of the part
  bool operator==(const PlacedSlice&) const = default;
};

/// One flat tensor of one rank.
struct Part {
  std::string key;    ///< "student.master"; what stands before the first dot is the group
  std::string dtype;  ///< as safetensors spells it
  int rank = 0;
  std::string file;    ///< name inside the checkpoint folder
  std::string tensor;  ///< name inside the file
  uint64_t size_bytes = 0;
  std::vector<PlacedSlice> slices;
  std::vector<uint64_t> block_hashes;  ///< XXH3-64 of every kBlockBytes, the last block may be shorter
  bool operator==(const Part&) const = default;
};

/// What a checkpoint is of.
struct Description {
  int64_t step = 0;          ///< iterations done when it was written
  sharding::MeshShape mesh;  ///< that wrote it; all extents set
  uint64_t experiment_hash = 0;
  std::string code_version;
  nlohmann::json state =
      nlohmann::json::object();  ///< counters, cursor, quarantine: the caller's, kept as is
};

/// The content of manifest.json (checkpoint/FORMAT.md).
struct Manifest {
  Description description;
  std::vector<Part> parts;

  /// Null when rank `rank` has no part of that key; else valid until `parts` changes.
  const Part* find(int rank, const std::string& key) const;
};

/// The text of manifest.json, with its own checksum inside. Throws nlohmann::json::exception for text that is
/// not UTF-8.
std::string to_json(const Manifest& manifest);

/// Errors: kIo when the text is damaged (not JSON, wrong checksum, missing or impossible fields), kData when
/// it says another format than `tmd-checkpoint` or a version other than kFormatVersion. `file` is for the
/// messages.
Manifest parse_manifest(const std::string& text, const std::filesystem::path& file);

/// Reads folder/manifest.json. Errors: as parse_manifest; kIo when the file cannot be read.
Manifest read_manifest(const std::filesystem::path& folder);

nlohmann::json part_to_json(const Part& part);
/// Throws nlohmann::json::exception for missing fields or wrong types, kIo for a bad hash.
Part part_from_json(const nlohmann::json& json);

/// Why these slices cannot describe a part of `size_bytes` bytes of `dtype`; empty when they can. Slices lie
/// in ascending order without overlap, at whole elements; padding may lie between them. Each must fit into
/// its tensor.
std::string fault_of_slices(const std::vector<PlacedSlice>& slices, const std::string& dtype,
                            uint64_t size_bytes);

}  // namespace tmd::checkpoint
