#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "model/parameters.h"
#include "model/wan_config.h"

namespace tmd::model {

struct AttentionWeights {
  LinearWeights q, k, v, o;   // [D, D], [D]
  at::Tensor norm_q, norm_k;  // [D], RMSNorm over all channels
};

/// One Wan transformer block.
struct BlockWeights {
  at::Tensor modulation;                 // [1, 6, D]
  AttentionWeights self_attn;
  at::Tensor norm3_weight, norm3_bias;   // [D], LayerNorm in front of the cross-attention
  AttentionWeights cross_attn;
  LinearWeights ffn_in, ffn_out;         // [F, D], [D, F]
};

/// `prefix`: "blocks.3".
void visit(ParameterVisitor& visitor, BlockWeights& block, const WanConfig& config, const std::string& prefix);

/// x + the three sub-layers of a Wan2.1 block: modulated self-attention with gate, cross-attention to the text,
/// modulated feed-forward with gate.
/// x [B, N, D], e6 [B, 6, D] time modulation, context [B, S, D], rotations [N, head_dim/2] complex -> [B, N, D].
at::Tensor block_forward(const BlockWeights& block, const WanConfig& config, const at::Tensor& x, const at::Tensor& e6,
                         const at::Tensor& context, const at::Tensor& rotations);

/// The three sub-layer outputs before gates and residuals, for comparisons with other implementations.
struct BlockTrace {
  at::Tensor self_attention, cross_attention, feed_forward;  // [B, N, D] each
};
at::Tensor block_forward(const BlockWeights& block, const WanConfig& config, const at::Tensor& x, const at::Tensor& e6,
                         const at::Tensor& context, const at::Tensor& rotations, BlockTrace* trace);

}  // namespace tmd::model
