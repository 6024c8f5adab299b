#pragma once

#include <ATen/core/Tensor.h>

#include "model/wan_config.h"

namespace tmd::model {

/// [B, C, T, H, W] -> [B, N, C*4]: the values of each (1, 2, 2) patch in the order (channel, ph, pw), tokens
/// in row-major (frame, row, column) order (Wan 2.1). Throws kData as token_grid.
at::Tensor patchify(const at::Tensor& latent);

/// [B, N, C*4] -> [B, C, T, H, W]: the reverse, but with the values of a patch in the order (ph, pw,
/// channel), which is Wan's output order (Wan 2.8). N = grid.tokens().
at::Tensor unpatchify(const at::Tensor& patches, const TokenGrid& grid);

/// Grid of a latent [B, C, T, H, W]: (T, H/2, W/2). Throws kData when it has not five dimensions, or odd
/// height or width.
TokenGrid token_grid(const at::Tensor& latent);

/// Time sinusoid [B, freq_dim] in float64: cosines first, then sines, of `time` times 10000^(-i / half)
/// (Wan 2.2). `time` [B] float64, in network units (0 .. 1000). `freq_dim` even.
at::Tensor sinusoid(const at::Tensor& time, int64_t freq_dim);

/// Unit complex numbers [N, head_dim / 2] (complex of `type`, float32 or float64) that rotate adjacent pairs
/// of a head: the first pairs by the frame, the next by the row, the last by the column; head_dim splits into
/// d - 2h, h, h with h = 2 * floor(head_dim / 6). Angles in float64 (Wan 2.4).
at::Tensor rope_rotations(const TokenGrid& grid, int64_t head_dim, at::ScalarType type);

/// The same numbers in float32 if they are bfloat16, else `x` itself.
at::Tensor wide(const at::Tensor& x);

/// softmax(q k^T / sqrt(head_dim)) v without mask (Wan 2.6). q [B, N, heads, head_dim], k and v
/// [B, S, heads, head_dim]; returns [B, N, heads * head_dim]. Computed in the type of v. On the meta device
/// after register_meta_operators.
at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

}  // namespace tmd::model
