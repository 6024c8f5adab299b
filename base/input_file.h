#pragma once

#include <filesystem>

namespace tmd {

/// `file`, which a user has named as input. Throws kData, not the kIo of opening it, when it does not exist
/// or is a folder: the name is wrong then, not the disk.
const std::filesystem::path& input_file(const std::filesystem::path& file);

}  // namespace tmd
