#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "model/conv_weights.h"
#include "model/frame_memory.h"

namespace tmd::model {

// The layers of the Wan2.1 VAE (Wan 5.1). Each takes x [B, C, T, H, W], a chunk of T frames, and what
// `memory` holds of earlier chunks: a clip in one chunk and the same clip in several give the same frames.
// Shapes are not checked.

/// x / max(norm of x over channels, 1e-12) * sqrt(C) * gamma, then SiLU. gamma has C elements.
at::Tensor channel_norm_silu(const at::Tensor& x, const at::Tensor& gamma);

/// 3x3x3 convolution that sees the two frames before each frame (zeros before the clip) and one pixel of
/// zeros around it. Lets go of `x` before it computes.
at::Tensor causal_conv(const ConvWeights& conv, at::Tensor x, FrameMemory& memory);

struct VaeResidualWeights {
  at::Tensor norm1;      ///< [in, 1, 1, 1]
  ConvWeights conv1;     ///< [out, in, 3, 3, 3]
  at::Tensor norm2;      ///< [out, 1, 1, 1]
  ConvWeights conv2;     ///< [out, out, 3, 3, 3]
  ConvWeights shortcut;  ///< [out, in, 1, 1, 1]; undefined when in == out
};
void visit(ParameterVisitor& visitor, VaeResidualWeights& block, const std::string& name, int64_t in,
           int64_t out);
/// [B, in, T, H, W] -> [B, out, T, H, W].
at::Tensor residual_forward(const VaeResidualWeights& block, const at::Tensor& x, FrameMemory& memory);

struct VaeAttentionWeights {
  at::Tensor norm;     ///< [C, 1, 1]
  ConvWeights to_qkv;  ///< [3C, C, 1, 1]: q, k, v
  ConvWeights proj;    ///< [C, C, 1, 1]
};
void visit(ParameterVisitor& visitor, VaeAttentionWeights& block, const std::string& name, int64_t channels);
/// One head over the H * W positions of each frame, with a residual.
at::Tensor attention_forward(const VaeAttentionWeights& block, const at::Tensor& x);

enum class VaeResample { kNone, kUp2d, kUp3d, kDown2d, kDown3d };

struct VaeResampleWeights {
  ConvWeights space;  ///< up [C/2, C, 3, 3], down [C, C, 3, 3]
  ConvWeights time;   ///< kUp3d [2C, C, 3, 1, 1], kDown3d [C, C, 3, 1, 1]; else undefined
};
/// Nothing for kNone.
void visit(ParameterVisitor& visitor, VaeResampleWeights& resample, const std::string& name, int64_t channels,
           VaeResample kind);
/// kUp2d and kUp3d double H and W and halve C, kDown2d and kDown3d halve H and W. The 3d kinds double or
/// halve the number of frames, of which the first one of the clip stays alone: 1 + n <-> 1 + 2n. A chunk for
/// kDown3d has 1 + 2n frames when it is the first and 2n later. kNone returns x.
at::Tensor resample_forward(const VaeResampleWeights& resample, VaeResample kind, const at::Tensor& x,
                            FrameMemory& memory);

}  // namespace tmd::model
