#pragma once

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

// Element-wise chains of a Wan block, each as one autograd node with one pass over memory (two for norms, the
// second from the cache). A node keeps its inputs and one or two numbers a token, no copies in float32
// (Wan 6.3).
//
// Everything is computed wide: in float64 for float64, else in float32. x, y and results are float32, float64
// or bfloat16; float64 does not mix with others. Weights, modulations and rotations are wide. Only gradients
// that are wanted are computed. Sums over tokens are added in pieces of 32 in order, so that neither the
// number of threads nor the machine's vector instructions change a bit. Tensors on the meta device give empty
// results of the right shape and type. The results cannot be differentiated twice. Throws kInternal for other
// types or devices.

namespace tmd::model {

/// LayerNorm of x [B, N, D] over the last dimension without weights, then x * (1 + scale) + shift (Wan 2.5),
/// in `type`. shift, scale: [B, 1, D].
at::Tensor modulated_norm(const at::Tensor& x, const at::Tensor& shift, const at::Tensor& scale,
                          double epsilon, at::ScalarType type);

/// LayerNorm of x [B, N, D] with weight and bias [D] (Wan 2.5, norm3), in `type`.
at::Tensor affine_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon,
                       at::ScalarType type);

/// Adds sums over this rank's channels, one for each row of all inputs and wide, up over the ranks that have
/// the others, in place. Empty: this rank has all channels.
using SumOverRanks = std::function<void(at::Tensor&)>;

struct RmsNormOptions {
  double epsilon = 1e-6;
  at::ScalarType type = at::kFloat;  ///< of the result
  /// bfloat16: x / sqrt(..), the weight and their product are rounded to it; else the type of compute.
  at::ScalarType stream = at::kFloat;
  int64_t full_width = 0;  ///< channels over all ranks; 0: those of x
  /// Called once for all inputs in the forward pass, and once in the backward pass if any of them wants a
  /// gradient. The graph keeps it.
  SumOverRanks sum_over_ranks = {};
};

struct RmsInput {
  at::Tensor x;       ///< [B, N, D]
  at::Tensor weight;  ///< [D]
};

/// x / sqrt(mean(x^2) + eps) * weight over all channels, before the head split (Wan 2.6), for each of the
/// inputs, of which at least one is given: queries and keys then share one sum over ranks (Wan 7.3).
/// Collective over: what options.sum_over_ranks is.
std::vector<at::Tensor> rms_norm(const std::vector<RmsInput>& inputs, const RmsNormOptions& options);

/// The same, then adjacent pairs of channels are turned by `rotations` [N, head_dim / 2] complex
/// (rope_rotations), in every head alike (Wan 2.4). D is a multiple of head_dim, head_dim at most 1024.
std::vector<at::Tensor> rms_norm_rope(const std::vector<RmsInput>& inputs, const at::Tensor& rotations,
                                      const RmsNormOptions& options);

/// x + gate * y in the type of x (Wan 2.5). x, y [B, N, D], gate [B, 1, D].
at::Tensor add_gated(const at::Tensor& x, const at::Tensor& y, const at::Tensor& gate);

/// x + y in the type of x. x, y [B, N, D].
at::Tensor add_wide(const at::Tensor& x, const at::Tensor& y);

/// The tanh form of GELU, of any shape, in the type of x.
at::Tensor gelu_tanh(const at::Tensor& x);

}  // namespace tmd::model
