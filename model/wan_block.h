#pragma once

#include <string>

#include <ATen/core/Tensor.h>

#include "model/parameters.h"
#include "model/wan_config.h"
#include "sharding/token_exchange.h"

namespace tmd::model {

struct AttentionWeights {
  LinearWeights q, k, v, o;   ///< [D, D], [D]
  at::Tensor norm_q, norm_k;  ///< [D], RMSNorm over all channels
};

/// One Wan transformer block (Wan 1.1, 2.5).
struct BlockWeights {
  at::Tensor modulation;  ///< [1, 6, D]: shift, scale, gate of self_attn, then of ffn
  AttentionWeights self_attn;
  at::Tensor norm3_weight, norm3_bias;  ///< [D], LayerNorm in front of the cross-attention
  AttentionWeights cross_attn;
  LinearWeights ffn_in, ffn_out;  ///< [F, D] and [F], [D, F] and [D]
};

/// `prefix`: "blocks.3". Names as in Wan's original checkpoints (Wan 3.2), start values as in Wan 1.1.
void visit(ParameterVisitor& visitor, BlockWeights& block, const WanConfig& config,
           const std::string& prefix);

/// x + the three sub-layers of a Wan2.1 block (Wan 2.5, 2.6): modulated self-attention with gate,
/// cross-attention to the text (all S rows are keys), modulated feed-forward with gate.
/// x [B, N, D], e6 [B, 6, D] time modulation, context [B, S, D], rotations [N, head_dim/2] complex
/// (rope_rotations) -> [B, N, D] in the type of x. Shapes are not checked.
///
/// With weights in bfloat16 the type of x decides where numbers are rounded: a float32 residual stream keeps
/// sums, norms, modulation and rotations in float32 and rounds at matrix products only (the original under
/// autocast), a bfloat16 stream also rounds after each sub-layer and in the q/k norm (diffusers; Wan 2.10).
///
/// On several ranks (sharding/token_exchange.h) x and the result are this rank's rows, `rotations` those of
/// its chunk, and `block` holds its blocks of the weights that have a split dimension. Collective over: the
/// sample group.
at::Tensor block_forward(const BlockWeights& block, const WanConfig& config, const at::Tensor& x,
                         const at::Tensor& e6, const at::Tensor& context, const at::Tensor& rotations,
                         const sharding::TokenExchange& exchange = {});

/// The three sub-layer outputs before gates and residuals, for comparisons with other implementations.
struct BlockTrace {
  at::Tensor self_attention, cross_attention, feed_forward;  ///< [B, N, D] each
};
/// The same; fills `trace` unless it is null.
at::Tensor block_forward(const BlockWeights& block, const WanConfig& config, const at::Tensor& x,
                         const at::Tensor& e6, const at::Tensor& context, const at::Tensor& rotations,
                         const sharding::TokenExchange& exchange, BlockTrace* trace);

}  // namespace tmd::model
