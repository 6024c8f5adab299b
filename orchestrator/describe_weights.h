#pragma once

#include <filesystem>
#include <string>

namespace tmd::orchestrator {

/// Whether `path` names weights: a safetensors file, an index, or a folder that find_weights finds some in.
bool is_weights(const std::filesystem::path& path);

/// What `tmd inspect` says about weights, as text of several lines: which model it is, spelling, sizes,
/// parameters, element types, metadata, and which tensors are missing or do not belong. Throws kData and kIo
/// for files that cannot be read.
std::string describe_weights(const std::filesystem::path& path);

}  // namespace tmd::orchestrator
