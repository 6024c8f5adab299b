#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::orchestrator {

/// Pictures as the picture libraries take them: rows of RGB bytes without gaps.
/// `rgb`: [3, H, W] in [-1, 1], any element type and device; rounded to the nearest of 256 levels, values
/// outside are clamped, those that are not finite become black. Returns [H * W * 3]. Throws kInternal for
/// another shape or no pixels.
std::vector<uint8_t> to_rgb_bytes(const at::Tensor& rgb);

}  // namespace tmd::orchestrator
