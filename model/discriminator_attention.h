#pragma once

#include <string>
#include <vector>

#include "model/discriminator_layers.h"

namespace tmd::model {

// A transformer on the positions of a map ("attention" of TMD's ablation; width, heads and layers as in
// FastGen's attention_down_mlp). The teacher's features know where they are: no positions are added.

/// x += o(attention(q, k, v of LayerNorm x)); x += mlp2(GELU(mlp1(LayerNorm x))). W =
/// config.attention.width.
struct EncoderLayerWeights {
  LinearWeights norm1;       ///< [W], [W]
  LinearWeights q, k, v, o;  ///< [W, W], [W]
  LinearWeights norm2;       ///< [W], [W]
  LinearWeights mlp1, mlp2;  ///< [4 W, W] and [4 W], [W, 4 W] and [W]
};
/// A learned query attends, in as many heads, to the LayerNorm of all tokens.
struct QueryPoolWeights {
  LinearWeights norm;     ///< [W], [W]
  at::Tensor query;       ///< [1, W]; starts so small that the pool is nearly the mean
  LinearWeights k, v, o;  ///< [W, W], [W]
};
struct AttentionBranch {
  LinearWeights embed;                      ///< [W, C], [W]
  std::vector<EncoderLayerWeights> layers;  ///< config.attention.layers
  QueryPoolWeights pool;
  PerceptronWeights perceptron;  ///< on W features
};
/// Resizes `layers`. `prefix`: "disc.0", with which the tensor names begin.
void visit(ParameterVisitor& visitor, AttentionBranch& branch, const DiscriminatorConfig& config,
           const std::string& prefix);

/// Logit [B] of a feature map [B, C, T, H, W], whose positions, or means of config.attention.pool squared of
/// them, are the tokens. `keep` as for the other kinds. On the meta device after register_meta_operators.
at::Tensor branch_logit(const AttentionBranch& branch, const DiscriminatorConfig& config,
                        const at::Tensor& map, const at::Tensor& keep);

}  // namespace tmd::model
