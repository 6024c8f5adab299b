#include "model/discriminator_attention.h"

#include <cmath>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "model/wan_ops.h"

namespace tmd::model {

using sharding::Initialiser;

namespace {

constexpr double kLayerNormEpsilon = 1e-5;
constexpr int64_t kMlpRatio = 4;

void visit_layer(ParameterVisitor& visitor, EncoderLayerWeights& layer, const std::string& name,
                 int64_t width) {
  visit_norm(visitor, layer.norm1, name + ".norm1", width);
  visit_linear(visitor, layer.q, name + ".q", width, width);
  visit_linear(visitor, layer.k, name + ".k", width, width);
  visit_linear(visitor, layer.v, name + ".v", width, width);
  visit_linear(visitor, layer.o, name + ".o", width, width);
  visit_norm(visitor, layer.norm2, name + ".norm2", width);
  visit_linear(visitor, layer.mlp1, name + ".mlp1", kMlpRatio * width, width);
  visit_linear(visitor, layer.mlp2, name + ".mlp2", width, kMlpRatio * width);
}

at::Tensor layer_norm(const at::Tensor& x, const LinearWeights& norm) {
  return at::layer_norm(x, {x.size(-1)}, norm.weight, norm.bias, kLayerNormEpsilon);
}

// [B, N, W] -> [B, N, heads, W / heads]
at::Tensor split_heads(const at::Tensor& x, int64_t heads) {
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads});
}

at::Tensor encoder_layer(const EncoderLayerWeights& w, int64_t heads, const at::Tensor& x) {
  const at::Tensor normed = layer_norm(x, w.norm1);
  const at::Tensor mixed =
      attention(split_heads(apply(w.q, normed), heads), split_heads(apply(w.k, normed), heads),
                split_heads(apply(w.v, normed), heads));
  const at::Tensor out = x + apply(w.o, mixed);
  return out + apply(w.mlp2, at::gelu(apply(w.mlp1, layer_norm(out, w.norm2))));
}

// [B, N, W] -> [B, W]
at::Tensor pool_tokens(const QueryPoolWeights& w, int64_t heads, const at::Tensor& x) {
  const at::Tensor normed = layer_norm(x, w.norm);
  const at::Tensor query = w.query.expand({x.size(0), 1, x.size(2)});
  const at::Tensor mean = attention(split_heads(query, heads), split_heads(apply(w.k, normed), heads),
                                    split_heads(apply(w.v, normed), heads));
  return apply(w.o, mean).squeeze(1);
}

}  // namespace

void visit(ParameterVisitor& visitor, AttentionBranch& branch, const DiscriminatorConfig& config,
           const std::string& prefix) {
  const int64_t width = config.attention.width;
  visit_linear(visitor, branch.embed, prefix + ".embed", width, config.channels);
  branch.layers.resize(static_cast<size_t>(config.attention.layers));
  for (size_t k = 0; k < branch.layers.size(); ++k) {
    visit_layer(visitor, branch.layers[k], fmt::format("{}.layer{}", prefix, k), width);
  }
  visit_norm(visitor, branch.pool.norm, prefix + ".pool.norm", width);
  visitor(
      branch.pool.query,
      {prefix + ".pool.query", {1, width}, Initialiser::normal(1 / std::sqrt(static_cast<double>(width)))});
  visit_linear(visitor, branch.pool.k, prefix + ".pool.k", width, width);
  visit_linear(visitor, branch.pool.v, prefix + ".pool.v", width, width);
  visit_linear(visitor, branch.pool.o, prefix + ".pool.o", width, width);
  visit(visitor, branch.perceptron, config, prefix, width);
}

at::Tensor branch_logit(const AttentionBranch& branch, const DiscriminatorConfig& config,
                        const at::Tensor& map, const at::Tensor& keep) {
  const int64_t heads = config.attention.heads, pool = config.attention.pool;
  const at::Tensor positions = average_windows(map, {1, pool, pool}).flatten(2);  // [B, C, N]
  at::Tensor x = apply(branch.embed, positions.transpose(1, 2));                  // [B, N, W]
  for (const EncoderLayerWeights& layer : branch.layers) x = encoder_layer(layer, heads, x);
  return perceptron_logit(branch.perceptron, config, pool_tokens(branch.pool, heads, x), keep);
}

}  // namespace tmd::model
