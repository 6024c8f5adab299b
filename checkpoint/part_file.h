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

/// The file of `part` in `folder`, checked: it is a correct safetensors file and its tensor has the type and
/// size of the manifest. Throws kIo that names file, tensor and what differs.
SafetensorsFile open_part_file(const std::filesystem::path& folder, const Part& part);

/// Bytes of block `block` of a part: kBlockBytes, or what is left for the last one.
uint64_t block_size(const Part& part, size_t block);

/// Fills `to` (block_size bytes) with a block of the part's bytes and compares it with its hash. Throws kIo
/// that names file, tensor and the block with its bytes.
void read_block(const SafetensorsFile& file, const Part& part, size_t block, std::span<std::byte> to);

}  // namespace tmd::checkpoint
