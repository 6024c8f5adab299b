#pragma once

#include <filesystem>
#include <string>

namespace tmd::orchestrator {

/// Whether `path` names weights: a safetensors file, an index, or a folder with one of them or with a folder
/// `transformer`. Which one is meant may still be unclear: describe_weights tells.
bool is_weights(const std::filesystem::path& path);

/// What `tmd inspect` says about weights, as text of several lines: which model it is, spelling, sizes,
/// parameters, element types, metadata, and which tensors are missing or do not belong. Throws kData and kIo
/// for files that cannot be read.
std::string describe_weights(const std::filesystem::path& path);

}  // namespace tmd::orchestrator
