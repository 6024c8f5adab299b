#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/safetensors.h"
#include "checkpoint/manifest.h"

namespace tmd::checkpoint {

/// Name of the file that rank `rank` writes for the parts of `group`: "rank_00003.student.safetensors".
std::string part_file_name(int rank, const std::string& group);

/// What stands before the first dot of a part's key; all of it when there is none.
std::string group_of(const std::string& key);

/// XXH3-64 of every kBlockBytes of `bytes`, the last block may be shorter.
std::vector<uint64_t> block_hashes(std::span<const std::byte> bytes);

/// The file of `part` in `folder`, checked: it is a correct safetensors file and its tensor has the type and
/// size of the manifest. Throws kIo that names file, tensor and what differs.
SafetensorsFile open_part_file(const std::filesystem::path& folder, const Part& part);

/// Fills `to` (part.size_bytes bytes, else kInternal) with the part's bytes and compares every block with its
/// hash. Throws kIo that names file, tensor and the first damaged block with its bytes.
void read_verified(const SafetensorsFile& file, const Part& part, std::span<std::byte> to);

/// Reads the whole part block by block and compares. Errors: as open_part_file and read_verified.
void verify_part(const std::filesystem::path& folder, const Part& part);

}  // namespace tmd::checkpoint
