#pragma once

#include <array>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/wan_vae_blocks.h"

namespace tmd::model {

inline constexpr int64_t kWanVaeChannels = 16;  ///< of the latent
inline constexpr int64_t kWanVaeWidth = 96;     ///< base width of the published weights

struct VaeStageWeights {
  std::vector<VaeResidualWeights> residual;
  VaeResampleWeights resample;
};

/// The encoder or the decoder (Wan 5.1): convolution in, middle, four stages and head; the decoder has its
/// middle before the stages, the encoder after them.
struct VaeCoderWeights {
  ConvWeights conv_in;
  VaeResidualWeights middle_before;
  VaeAttentionWeights middle_attention;
  VaeResidualWeights middle_after;
  std::array<VaeStageWeights, 4> stages;
  at::Tensor head_norm;
  ConvWeights head;
};

struct WanVaeWeights {
  ConvWeights conv1;  ///< [32, 32, 1, 1, 1], behind the encoder
  ConvWeights conv2;  ///< [16, 16, 1, 1, 1], in front of the decoder
  VaeCoderWeights encoder, decoder;
};

/// All 194 tensors, named as in Wan's original file (Wan 5.1). `width`: of the first convolution of the
/// encoder and of the last stage of the decoder; other layers have 2 and 4 times as many channels.
void visit(ParameterVisitor& visitor, WanVaeWeights& vae, int64_t width);

/// A chunk of latent frames [B, 16, T, h, w], not normalised -> video [B, 3, F, 8h, 8w], not clamped. F = 4T,
/// less 3 in the first chunk. Shapes are not checked.
at::Tensor vae_decode_chunk(const WanVaeWeights& vae, const at::Tensor& latent, FrameMemory& memory);

/// A chunk of video [B, 3, F, H, W] -> mean of the latent [B, 16, T, H/8, W/8], not normalised. F = 1 + 4n in
/// the first chunk and 4n later, H and W are multiples of 8. Shapes are not checked.
at::Tensor vae_encode_chunk(const WanVaeWeights& vae, const at::Tensor& video, FrameMemory& memory);

}  // namespace tmd::model
