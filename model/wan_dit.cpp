#include "model/wan_dit.h"

#include <cmath>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "model/fused_ops.h"
#include "model/wan_ops.h"

namespace tmd::model {

using sharding::Initialiser;
using sharding::Tensors;

namespace {

constexpr double kEmbeddingStd = 0.02;  // Wan's start of the text and time embedding Linears

}  // namespace

void visit(ParameterVisitor& visitor, EmbedWeights& embed, const WanConfig& config) {
  const int64_t width = config.width();
  visitor(embed.patch.weight, {"patch_embedding.weight",
                               {width, config.channels, 1, WanConfig::kPatchHeight, WanConfig::kPatchWidth},
                               Initialiser::xavier_uniform(config.patch_values(), width)});
  visitor(embed.patch.bias, {"patch_embedding.bias", {width}, Initialiser::constant(0)});
  const Initialiser normal = Initialiser::normal(kEmbeddingStd);
  visit_linear(visitor, embed.text_in, "text_embedding.0", width, config.text_dim, normal);
  visit_linear(visitor, embed.text_out, "text_embedding.2", width, width, normal);
  WideParameters wide_visitor(visitor);
  visit_linear(wide_visitor, embed.time_in, "time_embedding.0", width, config.freq_dim, normal);
  visit_linear(wide_visitor, embed.time_out, "time_embedding.2", width, width, normal);
  visit_linear(wide_visitor, embed.time_projection, "time_projection.1", 6 * width, width);
}

void visit(ParameterVisitor& visitor, HeadWeights& head, const WanConfig& config) {
  const int64_t width = config.width();
  WideParameters wide_visitor(visitor);
  wide_visitor(
      head.modulation,
      {"head.modulation", {1, 2, width}, Initialiser::normal(1 / std::sqrt(static_cast<double>(width)))});
  visit_linear(wide_visitor, head.head, "head.head", config.patch_values(), width, Initialiser::constant(0));
}

at::Tensor embed_patches(const EmbedWeights& embed, const at::Tensor& patches) {
  return apply({embed.patch.weight.flatten(1), embed.patch.bias}, patches);
}

at::Tensor embed_text(const EmbedWeights& embed, const at::Tensor& text) {
  return apply(embed.text_out, gelu_tanh(apply(embed.text_in, text)));
}

at::Tensor embed_time(const LinearWeights& in, const LinearWeights& out, const at::Tensor& sinusoid) {
  return apply(out, at::silu(apply(in, sinusoid)));
}

at::Tensor project_time(const LinearWeights& projection, const at::Tensor& temb) {
  return apply(projection, at::silu(temb)).view({temb.size(0), 6, temb.size(1)});
}

at::Tensor head_forward(const HeadWeights& head, const WanConfig& config, const at::Tensor& x,
                        const at::Tensor& temb) {
  const std::vector<at::Tensor> mod =
      (head.modulation + temb.unsqueeze(1)).split(1, 1);  // shift, scale [B, 1, D]
  const LinearWeights projection =
      x.scalar_type() == at::kBFloat16 ? cast(head.head, at::kBFloat16) : head.head;
  const at::Tensor normed =
      modulated_norm(x, mod[0], mod[1], config.epsilon, projection.weight.scalar_type());
  return apply(projection, normed);
}

std::vector<sharding::UnitSpec> wan_units(const WanConfig& config) {
  std::vector<sharding::UnitSpec> units;
  units.push_back(declare<EmbedWeights>("embed", [&](auto& v, auto& w) { visit(v, w, config); }));
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string name = fmt::format("blocks.{}", i);
    units.push_back(declare<BlockWeights>(name, [&](auto& v, auto& w) { visit(v, w, config, name); }));
  }
  units.push_back(declare<HeadWeights>("head", [&](auto& v, auto& w) { visit(v, w, config); }));
  return units;
}

namespace {

// The rows of this rank's chunk; padding is not rotated.
at::Tensor chunk_rotations(const at::Tensor& all, const sharding::TokenExchange& exchange) {
  const int64_t begin = std::min(exchange.chunk_begin(), all.size(0));
  const int64_t count = std::min(exchange.chunk_rows(), all.size(0) - begin);
  const at::Tensor own = all.narrow(0, begin, count);
  if (count == exchange.chunk_rows()) return own;
  return at::cat({own, at::ones({exchange.chunk_rows() - count, all.size(1)}, all.options())}, 0);
}

// Tokens, temb and e6; a stream in bfloat16 rounds the time embedding as well (Wan 2.10).
Tensors embed_stream(const EmbedWeights& w, at::ScalarType stream, const at::Tensor& patches,
                     const at::Tensor& waves) {
  const at::Tensor temb = embed_time(w.time_in, w.time_out, waves).to(stream);
  const LinearWeights projection =
      stream == at::kBFloat16 ? cast(w.time_projection, stream) : w.time_projection;
  return {embed_patches(w, patches).to(stream), temb, project_time(projection, temb)};
}

}  // namespace

WanDit::WanDit(const WanConfig& config, sharding::ShardedNetwork& network,
               std::optional<at::ScalarType> stream)
    : config_(config), network_(network), stream_(stream.value_or(network.wide_type())) {}

WanStream WanDit::embed(const at::Tensor& latent, const at::Tensor& time, const at::Tensor& text,
                        bool weight_gradients) const {
  check(text.dim() == 3 && text.size(2) == config_.text_dim, ErrorKind::kData,
        fmt::format("text embeddings have {} features, the model takes {}", text.size(-1), config_.text_dim));
  check(latent.size(1) == config_.channels, ErrorKind::kData,
        fmt::format("latents have {} channels, the model takes {}", latent.size(1), config_.channels));
  const auto function = [config = config_, stream = stream_, exchange = exchange(token_grid(latent))](
                            std::span<const at::Tensor> params, std::span<const at::Tensor> in) {
    const auto w = bind<EmbedWeights>(params, [&](auto& v, auto& weights) { visit(v, weights, config); });
    Tensors out = embed_stream(w, stream, exchange.own_rows(patchify(in[0])), in[1]);
    out.push_back(embed_text(w, exchange.summing_gradient(in[2])));
    return out;
  };
  Tensors out = run_unit(network_, network_.unit("embed"), weight_gradients, function,
                         {latent, time_waves(time), text});
  return {out[0], out[1], out[2], out[3]};
}

WanStream WanDit::embed(const at::Tensor& latent, const at::Tensor& time, bool weight_gradients) const {
  const auto function = [config = config_, stream = stream_, exchange = exchange(token_grid(latent))](
                            std::span<const at::Tensor> params, std::span<const at::Tensor> in) {
    const auto w = bind<EmbedWeights>(params, [&](auto& v, auto& weights) { visit(v, weights, config); });
    return embed_stream(w, stream, exchange.own_rows(patchify(in[0])), in[1]);
  };
  Tensors out =
      run_unit(network_, network_.unit("embed"), weight_gradients, function, {latent, time_waves(time)});
  return {out[0], out[1], out[2], {}};
}

at::Tensor WanDit::time_waves(const at::Tensor& time) const {
  return sinusoid(time, config_.freq_dim).to(network_.device(), network_.wide_type());
}

at::Tensor WanDit::block(int64_t index, const WanStream& stream, const TokenGrid& grid,
                         bool weight_gradients) const {
  const std::string name = fmt::format("blocks.{}", index);
  const auto function = [config = config_, name, rotations = rotations(grid), exchange = exchange(grid)](
                            std::span<const at::Tensor> params, std::span<const at::Tensor> in) {
    const auto w =
        bind<BlockWeights>(params, [&](auto& v, auto& weights) { visit(v, weights, config, name); });
    return Tensors{block_forward(w, config, in[0], in[1], in[2], rotations, exchange)};
  };
  return run_unit(network_, network_.unit(name), weight_gradients, function,
                  {stream.tokens, stream.e6, stream.context})[0];
}

at::Tensor WanDit::head(const WanStream& stream, const TokenGrid& grid, bool weight_gradients) const {
  const auto function = [config = config_, grid, exchange = exchange(grid)](
                            std::span<const at::Tensor> params, std::span<const at::Tensor> in) {
    const auto w = bind<HeadWeights>(params, [&](auto& v, auto& weights) { visit(v, weights, config); });
    return Tensors{unpatchify(exchange.whole(head_forward(w, config, in[0], in[1])), grid)};
  };
  return run_unit(network_, network_.unit("head"), weight_gradients, function,
                  {stream.tokens, stream.temb})[0]
      .to(network_.wide_type());
}

WanDit::Output WanDit::forward(const at::Tensor& latent, const at::Tensor& time, const at::Tensor& text,
                               const Request& request) const {
  const TokenGrid grid = token_grid(latent);
  Output output;
  const auto& taps = request.feature_blocks;
  ensure(!request.features_only || !taps.empty(), "a pass for features only names feature blocks");
  const int64_t last = request.features_only ? taps.back() : config_.layers - 1;
  const int64_t skipped = request.skip_block.value_or(-1);
  ensure(skipped >= (request.skip_block ? 0 : -1) && skipped < config_.layers,
         "the block to leave out is one of the network");
  WanStream stream = embed(latent, time, text, request.weight_gradients);
  for (int64_t i = 0; i <= last; ++i) {
    if (i != skipped) stream.tokens = block(i, stream, grid, request.weight_gradients);
    if (std::find(taps.begin(), taps.end(), i) != taps.end()) {
      output.features.push_back(unpatchify(exchange(grid).whole_for_each(stream.tokens), grid));
    }
  }
  if (!request.features_only) output.velocity = head(stream, grid, request.weight_gradients);
  return output;
}

at::Tensor WanDit::rotations(const TokenGrid& grid) const {
  if (!rotations_ || rotations_->first != grid) {
    rotations_ = std::make_unique<std::pair<TokenGrid, at::Tensor>>(
        grid, chunk_rotations(rope_rotations(grid, config_.head_dim, network_.wide_type()), exchange(grid))
                  .to(network_.device()));
  }
  return rotations_->second;
}

sharding::TokenExchange WanDit::exchange(const TokenGrid& grid) const {
  return {network_.mesh(), grid.tokens(), &network_.exposed_time().exchange_s};
}

at::Tensor WanDit::whole_tokens(const at::Tensor& tokens, const TokenGrid& grid) const {
  return exchange(grid).whole(tokens.detach());
}

}  // namespace tmd::model
