#include "model/tmd_student.h"

#include <cmath>

#include <ATen/ATen.h>

#include "model/fused_ops.h"
#include "model/wan_ops.h"

namespace tmd::model {

using sharding::Initialiser;
using sharding::Tensors;

void visit(ParameterVisitor& visitor, FusionWeights& fusion, const TmdStudentConfig& config) {
  const WanConfig& wan = config.wan;
  const int64_t width = wan.width();
  // The last two layers start at zero, so that the head starts blind to s - r; the first may not, or no
  // gradient would ever reach the branch.
  WideParameters wide_visitor(visitor);
  visit_linear(wide_visitor, fusion.delta_in, "tmd.delta_embedding.0", width, wan.freq_dim,
               Initialiser::normal(0.02));
  visit_linear(wide_visitor, fusion.delta_out, "tmd.delta_embedding.2", width, width,
               Initialiser::constant(0));
  visit_linear(wide_visitor, fusion.delta_projection, "tmd.delta_projection.1", 6 * width, width,
               Initialiser::constant(0));
  if (config.fusion == Fusion::kNone) return;
  if (config.fusion == Fusion::kConcat) {
    visit_linear(visitor, fusion.concat, "tmd.fusion.concat", width, 2 * width,
                 Initialiser::identity_then_normal(config.concat_std));
    return;
  }
  visit_linear(visitor, fusion.ffn_in, "tmd.fusion.ffn.0", wan.ffn, width);
  visit_linear(visitor, fusion.ffn_out, "tmd.fusion.ffn.2", width, wan.ffn);
  wide_visitor(fusion.modulation, {"tmd.fusion.modulation",
                                   {1, 3, width},
                                   Initialiser::normal(1 / std::sqrt(static_cast<double>(width)))});
  wide_visitor(fusion.gate, {"tmd.fusion.gate",
                             {1},
                             Initialiser::constant(config.gate_start),
                             config.gate_lr_multiplier,
                             /*weight_decay=*/false});
}

std::vector<sharding::UnitSpec> tmd_student_units(const TmdStudentConfig& config) {
  std::vector<sharding::UnitSpec> units = wan_units(config.wan);
  units.push_back(declare<FusionWeights>("fusion", [&](auto& v, auto& w) { visit(v, w, config); }));
  return units;
}

namespace {

// TMD App. A.1: an AdaLN feed-forward block on the patches of y_s, then one global gate between it and m. The
// modulation takes the feed-forward rows (3..5) of the shared time projection of s.
at::Tensor gated_fusion(const FusionWeights& w, const WanConfig& wan, const at::Tensor& m,
                        const at::Tensor& patches, const at::Tensor& e6) {
  const std::vector<at::Tensor> mod = (w.modulation + e6.narrow(1, 3, 3)).split(1, 1);  // shift, scale, gate
  const at::Tensor hidden = gelu_tanh(
      apply(w.ffn_in, modulated_norm(patches, mod[0], mod[1], wan.epsilon, w.ffn_in.weight.scalar_type())));
  const at::Tensor z = add_gated(patches, apply(w.ffn_out, hidden), mod[2]);
  return at::lerp(m, z, at::sigmoid(w.gate));
}

// TMD App. B.3
at::Tensor concat_fusion(const FusionWeights& w, const at::Tensor& m, const at::Tensor& patches) {
  return wide(apply(w.concat, at::cat({m, patches}, 2)));
}

at::Tensor fuse_tokens(const FusionWeights& w, const TmdStudentConfig& config, const at::Tensor& m,
                       const at::Tensor& patches, const at::Tensor& e6) {
  switch (config.fusion) {
    case Fusion::kGated:
      return gated_fusion(w, config.wan, m, patches, e6);
    case Fusion::kConcat:
      return concat_fusion(w, m, patches);
    case Fusion::kNone:
      break;
  }
  return patches;
}

}  // namespace

TmdStudent::MainFeature TmdStudent::backbone(const at::Tensor& x_t, const at::Tensor& time,
                                             const at::Tensor& text, bool weight_gradients) const {
  const TokenGrid grid = token_grid(x_t);
  WanStream stream = dit_.embed(x_t, time, text, weight_gradients);
  for (int64_t i = 0; i < config_.wan.layers - config_.head_blocks; ++i) {
    stream.tokens = dit_.block(i, stream, grid, weight_gradients);
  }
  return {stream.tokens, stream.context};
}

WanStream TmdStudent::fuse(const at::Tensor& y_s, const at::Tensor& inner_time, const at::Tensor& inner_step,
                           const MainFeature& m, bool weight_gradients) const {
  const WanStream inner = dit_.embed(y_s, inner_time, weight_gradients);
  const auto function = [config = config_](std::span<const at::Tensor> params,
                                           std::span<const at::Tensor> in) {
    const auto w = bind<FusionWeights>(params, [&](auto& v, auto& weights) { visit(v, weights, config); });
    const at::Tensor &tokens = in[0], &patches = in[1], &temb = in[2], &e6 = in[3], &waves = in[4];
    const at::Tensor delta = embed_time(w.delta_in, w.delta_out, waves);
    const at::Tensor fused = fuse_tokens(w, config, tokens, patches, e6);
    return Tensors{fused, temb + delta, e6 + project_time(w.delta_projection, delta)};
  };
  sharding::ShardedNetwork& net = network();
  const at::Tensor waves = sinusoid(inner_step, config_.wan.freq_dim).to(net.device(), net.wide_type());
  Tensors out = run_unit(net, net.unit("fusion"), weight_gradients, function,
                         {m.tokens, inner.tokens, inner.temb, inner.e6, waves});
  return {out[0], out[1], out[2], m.context};
}

at::Tensor TmdStudent::head(const at::Tensor& y_s, const at::Tensor& inner_time, const at::Tensor& inner_step,
                            const MainFeature& m, bool weight_gradients) const {
  const TokenGrid grid = token_grid(y_s);
  WanStream stream = fuse(y_s, inner_time, inner_step, m, weight_gradients);
  for (int64_t i = config_.wan.layers - config_.head_blocks; i < config_.wan.layers; ++i) {
    stream.tokens = dit_.block(i, stream, grid, weight_gradients);
  }
  return dit_.head(stream, grid, weight_gradients);
}

}  // namespace tmd::model
