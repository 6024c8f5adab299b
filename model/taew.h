#pragma once

#include <array>
#include <memory>

#include <ATen/core/Tensor.h>

#include "base/safetensors.h"
#include "model/conv_weights.h"
#include "model/frame_memory.h"

namespace tmd::model {

/// Three 3x3 convolutions of a frame and the block's input one frame earlier.
struct TaewMemoryWeights {
  ConvWeights conv0;         ///< [C, 2C, 3, 3]
  ConvWeights conv2, conv4;  ///< [C, C, 3, 3]
};

struct TaewStageWeights {
  std::array<TaewMemoryWeights, 3> blocks;
  at::Tensor grow;  ///< [s C, C, 1, 1]: makes s frames of one; s = 1 or 2
  at::Tensor conv;  ///< [C', C, 3, 3]
};

struct TaewWeights {
  ConvWeights conv_in;  ///< [256, 16, 3, 3]
  std::array<TaewStageWeights, 3> stages;
  ConvWeights conv_out;  ///< [3, 64, 3, 3]
};

/// The tensors "decoder.*" of TAEW2.1's file (Wan 5.3).
void visit(ParameterVisitor& visitor, TaewWeights& taew);

/// The decoder of TAEW2.1, a small substitute for the VAE of Wan2.1 for previews (Wan 5.3), at about 1/24 of
/// its cost. Latents are those that networks see: normalised. Memory does not grow with the clip but for its
/// video: frames are computed one latent frame at a time.
///
/// A copy shares the weights. No gradients, no communication. Thread: any.
class TaewDecoder {
 public:
  /// Reads the tensors "decoder.*" of `file` and converts them to `type`: float32 or float64; those of the
  /// encoder are not looked at. Throws kData as check_tensors and read_unit; kIo. Keeps nothing of `file`.
  static TaewDecoder load(const SafetensorsFile& file, at::ScalarType type);

  at::ScalarType type() const { return weights_->conv_in.weight.scalar_type(); }

  /// Normalised latents [B, 16, T, h, w] of any floating type -> video [B, 3, 4T - 3, 8h, 8w] in [-1, 1], of
  /// type(). Throws kData for another shape.
  at::Tensor decode(const at::Tensor& z) const;

  /// What the network itself gives: [B, 3, 4T, 8h, 8w], black 0 and white 1, not clamped, with the three
  /// frames in front that belong to no video.
  at::Tensor decode_raw(const at::Tensor& z) const;

 private:
  explicit TaewDecoder(TaewWeights weights)
      : weights_(std::make_shared<const TaewWeights>(std::move(weights))) {}

  std::shared_ptr<const TaewWeights> weights_;
};

}  // namespace tmd::model
