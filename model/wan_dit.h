#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "model/wan_block.h"
#include "model/wan_config.h"
#include "sharding/run_unit.h"
#include "sharding/sharded_network.h"

namespace tmd::model {

/// Everything in front of the blocks.
struct EmbedWeights {
  LinearWeights patch;                         // [D, C, 1, 2, 2], [D]
  LinearWeights text_in, text_out;             // [D, text_dim], [D, D]
  LinearWeights time_in, time_out;             // [D, freq_dim], [D, D]
  LinearWeights time_projection;               // [6 D, D]
};
void visit(ParameterVisitor& visitor, EmbedWeights& embed, const WanConfig& config);

/// Output norm and projection.
struct HeadWeights {
  at::Tensor modulation;  // [1, 2, D]
  LinearWeights head;     // [4 C, D]
};
void visit(ParameterVisitor& visitor, HeadWeights& head, const WanConfig& config);

/// patch embedding of a latent [B, C, T, H, W] -> tokens [B, N, D]
at::Tensor embed_patches(const EmbedWeights& embed, const at::Tensor& latent);
/// text rows [B, S, text_dim] -> context [B, S, D]; all S rows, the zero ones too
at::Tensor embed_text(const EmbedWeights& embed, const at::Tensor& text);
/// Linear - SiLU - Linear of the time sinusoid [B, freq_dim] -> temb [B, D]
at::Tensor embed_time(const LinearWeights& in, const LinearWeights& out, const at::Tensor& sinusoid);
/// Linear of SiLU(temb) -> e6 [B, 6, D]
at::Tensor project_time(const LinearWeights& projection, const at::Tensor& temb);
/// modulated norm and projection of x [B, N, D] with temb [B, D] -> latent [B, C, T, H, W]
at::Tensor head_forward(const HeadWeights& head, const WanConfig& config, const at::Tensor& x, const at::Tensor& temb,
                        const TokenGrid& grid);

/// Units of a Wan transformer: "embed", "blocks.0" .. "blocks.<L-1>", "head". Tensor names are those of the
/// published checkpoints.
std::vector<sharding::UnitSpec> wan_units(const WanConfig& config);

/// Time, text and token streams that a chain of blocks works on.
struct WanStream {
  at::Tensor tokens;   // [B, N, D]
  at::Tensor temb;     // [B, D]
  at::Tensor e6;       // [B, 6, D]
  at::Tensor context;  // [B, S, D]
};

/// Runs the parts of a Wan transformer unit by unit over a sharded network that has wan_units (and maybe more).
/// `weight_gradients` of each call: whether the parameters take part in the backward pass.
/// Collective over: the shard group, for every call.
class WanDit {
 public:
  /// Keeps a reference to `network`.
  WanDit(const WanConfig& config, sharding::ShardedNetwork& network) : config_(config), network_(network) {}

  const WanConfig& config() const { return config_; }
  sharding::ShardedNetwork& network() const { return network_; }

  /// latent [B, C, T, H, W], time [B] float64 in network units (0 .. 1000), text [B, S, text_dim].
  /// Throws kData when channels, text rows or text features differ from the configuration.
  WanStream embed(const at::Tensor& latent, const at::Tensor& time, const at::Tensor& text, bool weight_gradients) const;

  /// The same without text: `context` of the result is undefined.
  WanStream embed(const at::Tensor& latent, const at::Tensor& time, bool weight_gradients) const;

  /// Tokens after block `index`.
  at::Tensor block(int64_t index, const WanStream& stream, const TokenGrid& grid, bool weight_gradients) const;

  /// Output of the network, [B, C, T, H, W].
  at::Tensor head(const WanStream& stream, const TokenGrid& grid, bool weight_gradients) const;

  struct Request {
    bool weight_gradients = false;
    std::vector<int64_t> feature_blocks;  ///< return the feature maps after these blocks (ascending, 0-based)
    bool features_only = false;           ///< stop after the last of them
  };
  struct Output {
    at::Tensor velocity;               // [B, C, T, H, W], undefined with features_only
    std::vector<at::Tensor> features;  // [B, D/4, T, H, W] each
  };
  /// The whole network: an estimate of noise - data.
  Output forward(const at::Tensor& latent, const at::Tensor& time, const at::Tensor& text, const Request& request) const;

 private:
  at::Tensor rotations(const TokenGrid& grid) const;

  WanConfig config_;
  sharding::ShardedNetwork& network_;
  mutable std::unique_ptr<std::pair<TokenGrid, at::Tensor>> rotations_;  // of the last grid
};

}  // namespace tmd::model
