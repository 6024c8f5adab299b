#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "configs/config.h"
#include "data/latent_header.h"

namespace tmd::orchestrator {

/// Turns normalised latents of a data set into pictures: by the set's codec, by the best decoder of Wan
/// latents that is at hand (the VAE, else TAEW2.1, else a linear map without weights), or as a plot for
/// points of the plane.
class LatentPictures {
 public:
  /// What a codec without learned weights, or a network with them, does.
  class Decoder {
   public:
    virtual ~Decoder() = default;
    virtual std::string name() const = 0;
    /// Normalised latent [C, T, h, w] -> video [3, F, H, W], about [-1, 1].
    virtual at::Tensor decode(const at::Tensor& latent) const = 0;
  };

  /// `decoders`: weights that the user has named. Null, with a warning in the log, when nothing decodes the
  /// codec, or latents of Wan's VAE have another number of channels; a warning also for weights that the
  /// codec has no use for. Throws kData and kIo for decoder weights that cannot be used.
  static std::unique_ptr<LatentPictures> make(const data::LatentHeader& header,
                                              const configs::DecoderOptions& decoders);

  /// True for points of the plane, which are shown in one plot per column.
  static bool is_plot(const data::LatentHeader& header);
  bool is_plot() const { return !decoder_; }
  /// What decodes, for people: "Wan2.1 VAE", "TAEW2.1", "linear RGB (no decoder weights given)", a codec. Not
  /// when is_plot().
  std::string decoder_name() const { return decoder_->name(); }
  /// latents [N, C, T, H, W], normalised -> N videos [3, F, H, W] in [-1, 1]. Unless is_plot().
  std::vector<at::Tensor> videos(const at::Tensor& latents) const;
  /// Frames per second of such a video of `frames` frames; 8 where the set does not say.
  double frames_per_second(int64_t frames) const;
  /// `data` grey below `samples`, [N, 2, 1, 1, 1] normalised -> [3, S, S]. When is_plot().
  at::Tensor plot(const at::Tensor& data, const at::Tensor& samples) const;

 private:
  std::unique_ptr<Decoder> decoder_;
  data::LatentHeader header_;
};

}  // namespace tmd::orchestrator
