#include "model/wan_block.h"

#include <cmath>

#include <ATen/ATen.h>

#include "model/fused_ops.h"
#include "model/wan_ops.h"
#include "sharding/linear.h"

namespace tmd::model {

using sharding::Initialiser;
using sharding::TokenExchange;

namespace {

void visit_attention(ParameterVisitor& visitor, AttentionWeights& attention, const WanConfig& config,
                     const std::string& name) {
  const int64_t width = config.width();
  visit_column_parallel(visitor, attention.q, name + ".q", width, width);
  visit_column_parallel(visitor, attention.k, name + ".k", width, width);
  visit_column_parallel(visitor, attention.v, name + ".v", width, width);
  visit_row_parallel(visitor, attention.o, name + ".o", width, width);
  SplitParameters split(visitor, 0);
  WideParameters wide_visitor(split);
  wide_visitor(attention.norm_q, {name + ".norm_q.weight", {width}, Initialiser::constant(1)});
  wide_visitor(attention.norm_k, {name + ".norm_k.weight", {width}, Initialiser::constant(1)});
}

// Of the heads that this rank has.
at::Tensor split_heads(const at::Tensor& x, const WanConfig& config) {
  return x.view({x.size(0), x.size(1), x.size(2) / config.head_dim, config.head_dim});
}

// The Linear at the end of a sub-layer: each tensor rank has a part of its input features.
at::Tensor apply_row_parallel(const LinearWeights& linear, const at::Tensor& x,
                              const TokenExchange& exchange) {
  if (exchange.tensor_ranks() == 1) return apply(linear, x);
  return exchange.sum_to_rows(sharding::linear(x, linear.weight, {})) + linear.bias;
}

// Over the channels of all tensor ranks (Wan 7.3).
RmsNormOptions norm_options(const WanConfig& config, at::ScalarType type, at::ScalarType stream,
                            const TokenExchange& exchange) {
  RmsNormOptions options{.epsilon = config.epsilon, .type = type, .stream = stream};
  if (exchange.tensor_ranks() == 1) return options;
  options.full_width = config.width();
  options.sum_over_ranks = [exchange](at::Tensor& sums) { exchange.sum_over_tensor(sums); };
  return options;
}

// Attention between all tokens of the heads that are this rank's then, [B, N, heads, head_dim] each.
at::Tensor attend_over_tokens(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const TokenExchange& exchange) {
  if (exchange.sequence_ranks() == 1 && exchange.tensor_ranks() == 1) return attention(q, k, v);
  const at::Tensor tokens = exchange.all_tokens(at::cat({q, k, v}, 0));
  const std::vector<at::Tensor> qkv = tokens.chunk(3, 0);
  const at::Tensor out = attention(qkv[0], qkv[1], qkv[2]);  // [B, N, heads * head_dim]
  const at::Tensor heads = out.view({out.size(0), out.size(1), tokens.size(2), tokens.size(3)});
  return exchange.all_heads(heads).flatten(2);
}

at::Tensor self_attention(const AttentionWeights& w, const WanConfig& config, const at::Tensor& rows,
                          const at::Tensor& rotations, at::ScalarType stream, const TokenExchange& exchange) {
  const at::Tensor x = exchange.chunk(rows);
  const at::Tensor v = apply(w.v, x);
  const RmsNormOptions norm = norm_options(config, v.scalar_type(), stream, exchange);
  const std::vector<at::Tensor> qk =
      rms_norm_rope({{apply(w.q, x), w.norm_q}, {apply(w.k, x), w.norm_k}}, rotations, norm);
  const at::Tensor out = attend_over_tokens(split_heads(qk[0], config), split_heads(qk[1], config),
                                            split_heads(v, config), exchange);
  return apply_row_parallel(w.o, out, exchange);
}

// All text rows are keys, those behind the text's end too: Wan has no mask there. Every rank has the whole
// text, so queries need no other rank's.
at::Tensor cross_attention(const AttentionWeights& w, const WanConfig& config, const at::Tensor& rows,
                           const at::Tensor& context, at::ScalarType stream, const TokenExchange& exchange) {
  const at::Tensor x = exchange.chunk(rows);
  const at::Tensor v = apply(w.v, context);
  const RmsNormOptions norm = norm_options(config, v.scalar_type(), stream, exchange);
  const std::vector<at::Tensor> qk =
      rms_norm({{apply(w.q, x), w.norm_q}, {apply(w.k, context), w.norm_k}}, norm);
  const at::Tensor out =
      attention(split_heads(qk[0], config), split_heads(qk[1], config), split_heads(v, config));
  return apply_row_parallel(w.o, out, exchange);
}

at::Tensor feed_forward(const BlockWeights& block, const at::Tensor& rows, const TokenExchange& exchange) {
  const at::Tensor hidden = gelu_tanh(apply(block.ffn_in, exchange.chunk(rows)));
  return apply_row_parallel(block.ffn_out, hidden, exchange);
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
  visit_column_parallel(visitor, block.ffn_in, prefix + ".ffn.0", config.ffn, width);
  visit_row_parallel(visitor, block.ffn_out, prefix + ".ffn.2", width, config.ffn);
}

at::Tensor block_forward(const BlockWeights& block, const WanConfig& config, const at::Tensor& x,
                         const at::Tensor& e6, const at::Tensor& context, const at::Tensor& rotations,
                         const TokenExchange& exchange) {
  return block_forward(block, config, x, e6, context, rotations, exchange, nullptr);
}

at::Tensor block_forward(const BlockWeights& block, const WanConfig& config, const at::Tensor& x,
                         const at::Tensor& e6, const at::Tensor& context, const at::Tensor& rotations,
                         const TokenExchange& exchange, BlockTrace* trace) {
  // rows: shift, scale, gate of the self-attention, then of the feed-forward; [B, 1, D] each
  const std::vector<at::Tensor> mod = (block.modulation + e6).split(1, 1);
  const at::ScalarType stream = x.scalar_type(), compute = block.ffn_in.weight.scalar_type();
  const double epsilon = config.epsilon;
  const at::Tensor self =
      self_attention(block.self_attn, config, modulated_norm(x, mod[0], mod[1], epsilon, compute), rotations,
                     stream, exchange);
  at::Tensor out = add_gated(x, self, mod[2]);
  const at::Tensor cross = cross_attention(
      block.cross_attn, config, affine_norm(out, block.norm3_weight, block.norm3_bias, epsilon, compute),
      context, stream, exchange);
  out = add_wide(out, cross);
  const at::Tensor ffn = feed_forward(block, modulated_norm(out, mod[3], mod[4], epsilon, compute), exchange);
  if (trace) *trace = {self, cross, ffn};
  return add_gated(out, ffn, mod[5]);
}

}  // namespace tmd::model
