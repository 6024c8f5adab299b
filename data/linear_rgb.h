#pragma once

#include <ATen/core/Tensor.h>

namespace tmd::data {

/// A coarse picture of Wan2.1 latents without learned networks, one pixel per position and latent frame: each
/// colour is a fixed linear function of the 16 channels (Wan 5.4).
/// Normalised latent [16, T, h, w] of a floating type -> [3, T, h, w], RGB clamped to [-1, 1], same type.
/// Throws kData for another shape.
at::Tensor linear_rgb(const at::Tensor& z);

}  // namespace tmd::data
