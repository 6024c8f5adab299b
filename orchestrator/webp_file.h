#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::orchestrator {

struct WebpOptions {
  double frames_per_second = 8;
  bool lossless = true;  ///< exact pixels: right for toys, which are small
  float quality = 80;    ///< 0 to 100, of lossy pictures
};

/// A video as the content of an animated WebP file that repeats for ever. `video`: [3, F, H, W] in [-1, 1],
/// any element type; values as in to_rgb_bytes. Throws kInternal for another shape, no frame, a side above
/// 16383 pixels or a rate that is not positive, and when libwebp fails.
std::vector<std::byte> encode_webp(const at::Tensor& video, const WebpOptions& options = {});

/// encode_webp, published under `path` (base/publish.h). Throws kIo.
void write_webp(const std::filesystem::path& path, const at::Tensor& video, const WebpOptions& options = {});

}  // namespace tmd::orchestrator
