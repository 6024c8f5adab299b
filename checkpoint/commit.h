#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"

namespace tmd::checkpoint {

// What one rank does for a checkpoint of all. Errors: kIo.

/// Makes an empty FOLDER.partial for `total_bytes` of all ranks; throws kIo when the file system has not that
/// much space left.
void prepare_partial(const std::filesystem::path& folder, uint64_t total_bytes);

/// The parts of one rank as text, for `commit`.
std::string parts_to_text(const std::vector<Part>& parts);

/// Writes the manifest of the parts of all ranks into FOLDER.partial and gives that its final name. A folder
/// that had it is replaced as a whole. Throws kIo also when a rank's file is not visible here.
void commit(const std::filesystem::path& folder, const Description& description,
            const std::vector<std::string>& texts);

}  // namespace tmd::checkpoint
