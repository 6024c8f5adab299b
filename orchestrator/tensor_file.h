#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <ATen/core/Tensor.h>

#include "base/safetensors.h"

namespace tmd::orchestrator {

/// Named tensors of a few files' worth of numbers: inputs, outputs and noise of `tmd forward`, `sample`,
/// `vae`.
using NamedTensors = std::map<std::string, at::Tensor>;

/// One tensor of a safetensors file in its own type: F64, F32, F16, BF16, I64 or I32. Throws kData for
/// another type or when it is missing (the message names what there is); kIo.
at::Tensor read_tensor(const SafetensorsFile& file, const std::string& name);

/// The same, and kData unless it has `dims` dimensions; `meaning` ("[B, C, T, H, W]") is for the message.
at::Tensor read_tensor(const SafetensorsFile& file, const std::string& name, int64_t dims,
                       const std::string& meaning);

/// Throws kIo unless the folder that `file` shall lie in exists: before the work whose result it will hold.
void require_folder_of(const std::filesystem::path& file);

/// Writes the tensors, each in its own type (as above), as one safetensors file. Throws kIo.
void write_tensors(const std::filesystem::path& path, const NamedTensors& tensors,
                   const SafetensorsMetadata& metadata = {});

}  // namespace tmd::orchestrator
