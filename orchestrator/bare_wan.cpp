#include "orchestrator/bare_wan.h"

#include <fmt/format.h>

#include <ATen/ATen.h>

#include "base/error.h"
#include "model/parameters.h"
#include "model/wan_dit.h"
#include "model/wan_ops.h"
#include "sharding/gradient_sink.h"
#include "sharding/token_exchange.h"

namespace tmd::orchestrator {

BareWan::BareWan(const model::WanConfig& config, sharding::ShardedNetwork& network)
    : config_(config), network_(network) {
  check(network.mesh().world().size() == 1 && network.trainable() && network.type() == network.wide_type(),
        ErrorKind::kConfig, "bare block functions run on one rank, in fp32");
  for (int unit = 0; unit < network.units(); ++unit) {
    std::vector<at::Tensor>& params = params_.emplace_back();
    for (size_t i = 0; i < network.spec(unit).params.size(); ++i) {
      const sharding::ParamSpec& spec = network.spec(unit).params[i];
      const at::Tensor flat = network.shard(unit).master.narrow(
          0, network.layout(unit).offset(static_cast<int>(i)), spec.elements());
      params.push_back(flat.view(spec.shape).detach().requires_grad_(true));
    }
  }
}

void BareWan::hand_over_gradients() {
  for (int unit = 0; unit < network_.units(); ++unit) {
    sharding::GradientSink sink(network_, unit);
    std::vector<at::Tensor>& params = params_[static_cast<size_t>(unit)];
    for (size_t i = 0; i < params.size(); ++i) {
      sink.put(static_cast<int>(i), params[i].grad());
      params[i].mutable_grad().reset();
    }
    sink.finish();
  }
}

at::Tensor BareWan::forward(const at::Tensor& latent, const at::Tensor& time, const at::Tensor& text) const {
  using namespace model;
  const TokenGrid grid = token_grid(latent);
  const sharding::TokenExchange exchange(network_.mesh(), grid.tokens(), nullptr);
  const at::Tensor rotations = rope_rotations(grid, config_.head_dim, network_.type()).to(latent.device());
  const auto embed =
      model::bind<EmbedWeights>(params_.front(), [&](auto& v, auto& weights) { visit(v, weights, config_); });
  const at::Tensor waves = sinusoid(time, config_.freq_dim).to(latent.device(), network_.type());
  const at::Tensor temb = embed_time(embed.time_in, embed.time_out, waves);
  const at::Tensor e6 = project_time(embed.time_projection, temb), context = embed_text(embed, text);
  at::Tensor x = embed_patches(embed, patchify(latent));
  for (int64_t i = 0; i < config_.layers; ++i) {
    const auto block = model::bind<BlockWeights>(
        params_[static_cast<size_t>(1 + i)],
        [&](auto& v, auto& weights) { visit(v, weights, config_, fmt::format("blocks.{}", i)); });
    x = block_forward(block, config_, x, e6, context, rotations, exchange);
  }
  const auto head =
      model::bind<HeadWeights>(params_.back(), [&](auto& v, auto& weights) { visit(v, weights, config_); });
  return unpatchify(head_forward(head, config_, x, temb), grid);
}

}  // namespace tmd::orchestrator
