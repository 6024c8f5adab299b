#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/wan_block.h"
#include "model/wan_config.h"
#include "sharding/run_unit.h"
#include "sharding/sharded_network.h"

namespace tmd::model {

/// Everything in front of the blocks (Wan 2.1 to 2.3). Shapes are those of weights; biases are [out].
struct EmbedWeights {
  LinearWeights patch;              ///< [D, C, 1, 2, 2]
  LinearWeights text_in, text_out;  ///< [D, text_dim], [D, D]
  LinearWeights time_in, time_out;  ///< [D, freq_dim], [D, D]
  LinearWeights time_projection;    ///< [6 D, D]
};
void visit(ParameterVisitor& visitor, EmbedWeights& embed, const WanConfig& config);

/// Output norm and projection (Wan 2.7).
struct HeadWeights {
  at::Tensor modulation;  ///< [1, 2, D]: shift, scale
  LinearWeights head;     ///< [4 C, D], [4 C]; starts at zero (Wan 1.1)
};
void visit(ParameterVisitor& visitor, HeadWeights& head, const WanConfig& config);

/// patch embedding of patches (patchify) [B, n, 4 C] -> tokens [B, n, D] (Wan 2.1)
at::Tensor embed_patches(const EmbedWeights& embed, const at::Tensor& patches);
/// text rows [B, S, text_dim] -> context [B, S, D] (Wan 2.3); all S rows, the zero ones too
at::Tensor embed_text(const EmbedWeights& embed, const at::Tensor& text);
/// Linear - SiLU - Linear of the time sinusoid [B, freq_dim] -> temb [B, D] (Wan 2.2)
at::Tensor embed_time(const LinearWeights& in, const LinearWeights& out, const at::Tensor& sinusoid);
/// Linear of SiLU(temb), temb [B, D] -> e6 [B, 6, D] (Wan 2.2)
at::Tensor project_time(const LinearWeights& projection, const at::Tensor& temb);
/// modulated norm and projection of x [B, n, D] with temb [B, D] -> patches [B, n, 4 C] (Wan 2.7)
at::Tensor head_forward(const HeadWeights& head, const WanConfig& config, const at::Tensor& x,
                        const at::Tensor& temb);

/// Units of a Wan transformer: "embed", "blocks.0" .. "blocks.<L-1>", "head". Tensor names are those of the
/// published original checkpoints (Wan 3.2).
std::vector<sharding::UnitSpec> wan_units(const WanConfig& config);

/// Time, text and token streams that a chain of blocks works on. Tokens are this rank's rows of the N tokens
/// (sharding/token_exchange.h); the rest is equal on all ranks of a sample group, but its gradient is what
/// this rank's tokens contribute.
struct WanStream {
  at::Tensor tokens;   ///< [B, rows, D]
  at::Tensor temb;     ///< [B, D]
  at::Tensor e6;       ///< [B, 6, D]
  at::Tensor context;  ///< [B, S, D]
};

/// Runs the parts of a Wan transformer unit by unit over a sharded network that has wan_units (and maybe
/// more). `weight_gradients` of each call: whether the parameters take part in the backward pass. Latents and
/// text are in the network's wide type, and so is the output.
/// Latents, text, features and outputs are whole and equal on all ranks of a sample group, and so are the
/// gradients of latents and text.
/// Collective over: the copy group, for every call. Thread: one at a time (the rotations of the last grid
/// are kept).
class WanDit {
 public:
  /// Keeps a reference to `network`, which must outlive it. `stream`: type of the residual stream, the
  /// network's wide type by default; bfloat16 for a network in bfloat16 rounds where diffusers does
  /// (block_forward, Wan 2.10).
  WanDit(const WanConfig& config, sharding::ShardedNetwork& network,
         std::optional<at::ScalarType> stream = std::nullopt);

  const WanConfig& config() const { return config_; }
  sharding::ShardedNetwork& network() const { return network_; }

  /// latent [B, C, T, H, W], time [B] float64 in network units (0 .. 1000), text [B, S, text_dim] with any S.
  /// Times are on the host, all else is on the network's device.
  /// Throws kData when channels or text features differ from the configuration, and for odd height or width.
  WanStream embed(const at::Tensor& latent, const at::Tensor& time, const at::Tensor& text,
                  bool weight_gradients) const;

  /// The same without text: `context` of the result is undefined. The channels are not checked.
  WanStream embed(const at::Tensor& latent, const at::Tensor& time, bool weight_gradients) const;

  /// Tokens [B, rows, D] after block `index` (Wan 2.5). Throws kInternal when there is no such block.
  at::Tensor block(int64_t index, const WanStream& stream, const TokenGrid& grid,
                   bool weight_gradients) const;

  /// [B, rows, D] -> whole [B, N, D], N = grid.tokens(), without graph. Collective over: the sample group.
  at::Tensor whole_tokens(const at::Tensor& tokens, const TokenGrid& grid) const;

  /// Output of the network, [B, C, T, H, W] (Wan 2.7, 2.8).
  at::Tensor head(const WanStream& stream, const TokenGrid& grid, bool weight_gradients) const;

  struct Request {
    bool weight_gradients = false;
    std::vector<int64_t> feature_blocks;  ///< return the feature maps after these blocks (ascending, 0-based)
    bool features_only = false;           ///< stop after the last of them, of which there is one at least
    std::optional<int64_t> skip_block = {};  ///< leave this block out: tokens pass it by
  };
  struct Output {
    at::Tensor velocity;               ///< [B, C, T, H, W], undefined with features_only
    std::vector<at::Tensor> features;  ///< [B, D/4, T, H, W] each, in the patch order of unpatchify
  };
  /// The whole network: an estimate of noise - data (Wan 2.9). Arguments and errors as of embed; throws
  /// kInternal when there is no block that a request names.
  Output forward(const at::Tensor& latent, const at::Tensor& time, const at::Tensor& text,
                 const Request& request) const;

 private:
  at::Tensor time_waves(const at::Tensor& time) const;
  at::Tensor rotations(const TokenGrid& grid) const;
  sharding::TokenExchange exchange(const TokenGrid& grid) const;

  WanConfig config_;
  sharding::ShardedNetwork& network_;
  at::ScalarType stream_;
  mutable std::unique_ptr<std::pair<TokenGrid, at::Tensor>> rotations_;  // of the last grid, this rank's
};

}  // namespace tmd::model
