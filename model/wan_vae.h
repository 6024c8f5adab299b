#pragma once

#include <array>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "base/safetensors.h"
#include "model/frame_memory.h"
#include "model/wan_vae_coder.h"

namespace tmd::model {

/// Mean and standard deviation of the latents by channel (Wan 4.1). Networks see normalised latents
/// z = (mu - mean) / std.
inline constexpr std::array<double, kWanVaeChannels> kWanLatentMean = {
    -0.7571, -0.7089, -0.9113, 0.1075,  -0.1745, 0.9653,  -0.1517, 1.5508,
    0.4134,  -0.0715, 0.5517,  -0.3632, -0.1922, -0.9497, 0.2503,  -0.2921};
inline constexpr std::array<double, kWanVaeChannels> kWanLatentStd = {
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
    3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160};

/// The VAE of Wan2.1 (Wan 5.1, 5.2): video in [-1, 1] of F = 4k + 1 frames <-> normalised latents of k + 1
/// frames. The first frame is on its own, then 4 frames make one; 8 x 8 pixels make one position.
///
/// A copy shares the weights. No gradients, no communication. Thread: any.
class WanVae {
 public:
  /// Reads weights in the names of Wan's original file or of diffusers' AutoencoderKLWan, with the base width
  /// that the file has, and converts them to `type`: float32 or float64. Of the configuration beside a
  /// diffusers file nothing is read: what is not as in Wan2.1 there changes names or shapes, except
  /// latents_mean and latents_std, which must be those above. Throws kData as check_tensors and read_unit, so
  /// for the VAE of Wan2.2 and for files that are no VAE; kIo. Keeps nothing of `file`.
  static WanVae load(const SafetensorsFile& file, at::ScalarType type);

  int64_t base_width() const { return base_width_; }
  at::ScalarType type() const { return weights_->conv1.weight.scalar_type(); }

  /// Normalised latents [B, 16, T, h, w] of any floating type -> video [B, 3, 4T - 3, 8h, 8w] in [-1, 1], of
  /// type(). All frames at once, so memory grows with T; WanVaeDecoderStream computes the same frames with
  /// less. Throws kData for another shape.
  at::Tensor decode(const at::Tensor& z) const;
  /// The same numbers, one latent frame after the other through a WanVaeDecoderStream.
  at::Tensor decode_by_frames(const at::Tensor& z) const;
  /// As decode, before the values are clamped.
  at::Tensor decode_unclamped(const at::Tensor& z) const;

  /// Video [B, 3, F, H, W] of any floating type -> normalised mean of the latent
  /// [B, 16, (F - 1) / 4 + 1, H/8, W/8], of type(). All frames at once; see WanVaeEncoderStream. Throws kData
  /// for another shape, F that is not 4k + 1, H or W that is no multiple of 8.
  at::Tensor encode(const at::Tensor& video) const;
  /// The same numbers, one latent frame after the other through a WanVaeEncoderStream.
  at::Tensor encode_by_frames(const at::Tensor& video) const;

 private:
  friend class WanVaeDecoderStream;
  friend class WanVaeEncoderStream;

  WanVae(WanVaeWeights weights, int64_t base_width);

  std::shared_ptr<const WanVaeWeights> weights_;
  int64_t base_width_;
  at::Tensor mean_, std_;  // [16, 1, 1, 1]
};

/// Decodes one clip a few latent frames at a time, usually one. Between calls it keeps two frames of each
/// convolution's input (3.8 GB for 480 x 832 in float32), whatever the length of the clip. Thread: one.
class WanVaeDecoderStream {
 public:
  explicit WanVaeDecoderStream(WanVae vae) : vae_(std::move(vae)) {}

  /// The next normalised latent frames [B, 16, T, h, w] -> their video [B, 3, F, 8h, 8w] in [-1, 1]; F = 4T,
  /// less 3 in the first call. Throws kData for another shape, and when B, h or w differ from the first
  /// call's.
  at::Tensor next(const at::Tensor& z);

 private:
  WanVae vae_;
  FrameMemory memory_;
  std::vector<int64_t> clip_;  // B, h, w; empty before the first chunk
};

/// Encodes one clip a few frames at a time: first 1, then 4 each, or more. Memory as WanVaeDecoderStream.
/// Thread: one.
class WanVaeEncoderStream {
 public:
  explicit WanVaeEncoderStream(WanVae vae) : vae_(std::move(vae)) {}

  /// The next frames of video [B, 3, F, H, W], F = 4k + 1 in the first call and 4k later -> their normalised
  /// latents [B, 16, T, H/8, W/8], T = k + 1 in the first call and k later. Throws kData for another shape,
  /// H or W that is no multiple of 8, and when B, H or W differ from the first call's.
  at::Tensor next(const at::Tensor& video);

 private:
  WanVae vae_;
  FrameMemory memory_;
  std::vector<int64_t> clip_;  // B, H, W; empty before the first chunk
};

}  // namespace tmd::model
