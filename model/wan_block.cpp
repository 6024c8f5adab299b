#include "model/wan_block.h"

#include <cmath>

#include <ATen/ATen.h>

#include "model/fused_ops.h"
#include "model/wan_ops.h"

namespace tmd::model {

using sharding::Initialiser;

namespace {

void visit_attention(ParameterVisitor& visitor, AttentionWeights& attention, const WanConfig& config,
                     const std::string& name) {
  const int64_t width = config.width();
  visit_linear(visitor, attention.q, name + ".q", width, width);
  visit_linear(visitor, attention.k, name + ".k", width, width);
  visit_linear(visitor, attention.v, name + ".v", width, width);
  visit_linear(visitor, attention.o, name + ".o", width, width);
  WideParameters wide_visitor(visitor);
  wide_visitor(attention.norm_q, {name + ".norm_q.weight", {width}, Initialiser::constant(1)});
  wide_visitor(attention.norm_k, {name + ".norm_k.weight", {width}, Initialiser::constant(1)});
}

at::Tensor split_heads(const at::Tensor& x, const WanConfig& config) {
  return x.view({x.size(0), x.size(1), config.heads, config.head_dim});
}

at::Tensor self_attention(const AttentionWeights& w, const WanConfig& config, const at::Tensor& x,
                          const at::Tensor& rotations, at::ScalarType stream) {
  const at::Tensor v = apply(w.v, x);
  const RmsNormOptions norm{.epsilon = config.epsilon, .type = v.scalar_type(), .stream = stream};
  const at::Tensor q = rms_norm_rope(apply(w.q, x), w.norm_q, rotations, norm);
  const at::Tensor k = rms_norm_rope(apply(w.k, x), w.norm_k, rotations, norm);
  return apply(w.o, attention(split_heads(q, config), split_heads(k, config), split_heads(v, config)));
}

// All text rows are keys, those behind the text's end too: Wan has no mask there.
at::Tensor cross_attention(const AttentionWeights& w, const WanConfig& config, const at::Tensor& x,
                           const at::Tensor& context, at::ScalarType stream) {
  const at::Tensor v = apply(w.v, context);
  const RmsNormOptions norm{.epsilon = config.epsilon, .type = v.scalar_type(), .stream = stream};
  const at::Tensor q = rms_norm(apply(w.q, x), w.norm_q, norm);
  const at::Tensor k = rms_norm(apply(w.k, context), w.norm_k, norm);
  return apply(w.o, attention(split_heads(q, config), split_heads(k, config), split_heads(v, config)));
}

}  // namespace

void visit(ParameterVisitor& visitor, BlockWeights& block, const WanConfig& config,
           const std::string& prefix) {
  const int64_t width = config.width();
  WideParameters wide_visitor(visitor);
  wide_visitor(block.modulation, {prefix + ".modulation",
                                  {1, 6, width},
                                  Initialiser::normal(1 / std::sqrt(static_cast<double>(width)))});
  visit_attention(visitor, block.self_attn, config, prefix + ".self_attn");
  wide_visitor(block.norm3_weight, {prefix + ".norm3.weight", {width}, Initialiser::constant(1)});
  wide_visitor(block.norm3_bias, {prefix + ".norm3.bias", {width}, Initialiser::constant(0)});
  visit_attention(visitor, block.cross_attn, config, prefix + ".cross_attn");
  visit_linear(visitor, block.ffn_in, prefix + ".ffn.0", config.ffn, width);
  visit_linear(visitor, block.ffn_out, prefix + ".ffn.2", width, config.ffn);
}

at::Tensor block_forward(const BlockWeights& block, const WanConfig& config, const at::Tensor& x,
                         const at::Tensor& e6, const at::Tensor& context, const at::Tensor& rotations) {
  return block_forward(block, config, x, e6, context, rotations, nullptr);
}

at::Tensor block_forward(const BlockWeights& block, const WanConfig& config, const at::Tensor& x,
                         const at::Tensor& e6, const at::Tensor& context, const at::Tensor& rotations,
                         BlockTrace* trace) {
  // rows: shift, scale, gate of the self-attention, then of the feed-forward; [B, 1, D] each
  const std::vector<at::Tensor> mod = (block.modulation + e6).split(1, 1);
  const at::ScalarType stream = x.scalar_type(), compute = block.ffn_in.weight.scalar_type();
  const double epsilon = config.epsilon;
  const at::Tensor self = self_attention(
      block.self_attn, config, modulated_norm(x, mod[0], mod[1], epsilon, compute), rotations, stream);
  at::Tensor out = add_gated(x, self, mod[2]);
  const at::Tensor cross = cross_attention(
      block.cross_attn, config, affine_norm(out, block.norm3_weight, block.norm3_bias, epsilon, compute),
      context, stream);
  out = add_wide(out, cross);
  const at::Tensor hidden =
      gelu_tanh(apply(block.ffn_in, modulated_norm(out, mod[3], mod[4], epsilon, compute)));
  const at::Tensor feed_forward = apply(block.ffn_out, hidden);
  if (trace) *trace = {self, cross, feed_forward};
  return add_gated(out, feed_forward, mod[5]);
}

}  // namespace tmd::model
