#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::orchestrator {

/// A picture as the content of a PNG file (8 bits, RGB). `rgb`: [3, H, W] in [-1, 1], any element type;
/// values outside are clamped, those that are not finite become black. The same picture gives the same bytes.
/// Throws kInternal for another shape or no pixels, and when libpng fails.
std::vector<std::byte> encode_png(const at::Tensor& rgb);

/// encode_png, published under `path` (base/publish.h). Throws kIo.
void write_png(const std::filesystem::path& path, const at::Tensor& rgb);

}  // namespace tmd::orchestrator
