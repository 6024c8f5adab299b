#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::data {

/// Codec of latents of Wan's VAE.
inline constexpr const char* kWanCodec = "wan2.1-vae";

/// Turns pictures into latents and back without learned weights. Latents are unnormalised here.
/// Thread: any; a codec has no state.
class Codec {
 public:
  virtual ~Codec() = default;
  virtual std::string name() const = 0;
  /// video [3, F, H, W], RGB in [-1, 1], any floating type -> latent [C, T, h, w] of the same type.
  /// Throws kData for another shape, and when the codec's block size does not divide F, H or W.
  virtual at::Tensor encode(const at::Tensor& video) const = 0;
  /// latent [C, T, h, w] -> video [3, F, H, W] of the same type, not clamped. Throws kData for another shape,
  /// and when C is not the codec's.
  virtual at::Tensor decode(const at::Tensor& latent) const = 0;
};

/// The codec of a file's attribute `codec`. Throws kData: an unknown name (the known ones are listed), a
/// known one whose latents are no pictures (points-2d) or need a learned decoder (wan2.1-vae).
std::unique_ptr<Codec> make_codec(const std::string& name);

/// (latent - mean) / std and its inverse per channel. latent [..., C, T, H, W]; mean, std [C], taken in the
/// latent's type. Throws kInternal when there are not C numbers.
at::Tensor normalise(const at::Tensor& latent, std::span<const float> mean, std::span<const float> std);
at::Tensor denormalise(const at::Tensor& latent, std::span<const float> mean, std::span<const float> std);

}  // namespace tmd::data
