#include "orchestrator/latent_pictures.h"

#include <fmt/format.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "base/error.h"
#include "base/input_file.h"
#include "base/log.h"
#include "data/codec.h"
#include "data/linear_rgb.h"
#include "model/taew.h"
#include "model/wan_vae.h"
#include "orchestrator/pictures.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kPointsCodec = "points-2d";

class CodecDecoder : public LatentPictures::Decoder {
 public:
  explicit CodecDecoder(const data::LatentHeader& header)
      : codec_(data::make_codec(header.codec)), mean_(header.latent_mean), std_(header.latent_std) {}
  std::string name() const override { return codec_->name(); }
  at::Tensor decode(const at::Tensor& latent) const override {
    return codec_->decode(data::denormalise(latent, mean_, std_));
  }

 private:
  std::unique_ptr<data::Codec> codec_;
  std::vector<float> mean_, std_;
};

// Latents of Wan's VAE. Networks that decode them expect Wan's mean and deviation; a set may have its own.
class WanDecoder : public LatentPictures::Decoder {
 public:
  explicit WanDecoder(const data::LatentHeader& header)
      : mean_(header.latent_mean),
        std_(header.latent_std),
        wan_mean_(model::kWanLatentMean.begin(), model::kWanLatentMean.end()),
        wan_std_(model::kWanLatentStd.begin(), model::kWanLatentStd.end()) {}

 protected:
  at::Tensor as_wan(const at::Tensor& latent) const {
    if (mean_ == wan_mean_ && std_ == wan_std_) return latent;
    return data::normalise(data::denormalise(latent, mean_, std_), wan_mean_, wan_std_);
  }

 private:
  std::vector<float> mean_, std_, wan_mean_, wan_std_;
};

class VaeDecoder : public WanDecoder {
 public:
  VaeDecoder(const data::LatentHeader& header, const std::string& file)
      : WanDecoder(header), vae_(model::WanVae::load(SafetensorsFile(input_file(file)), at::kFloat)) {}
  std::string name() const override { return "Wan2.1 VAE"; }
  // One latent frame after the other: the whole clip at once takes many times the memory.
  at::Tensor decode(const at::Tensor& latent) const override {
    return vae_.decode_by_frames(as_wan(latent).unsqueeze(0)).squeeze(0);
  }

 private:
  model::WanVae vae_;
};

class TaewPictures : public WanDecoder {
 public:
  TaewPictures(const data::LatentHeader& header, const std::string& file)
      : WanDecoder(header), taew_(model::TaewDecoder::load(SafetensorsFile(input_file(file)), at::kFloat)) {}
  std::string name() const override { return "TAEW2.1"; }
  at::Tensor decode(const at::Tensor& latent) const override {
    return taew_.decode(as_wan(latent).unsqueeze(0)).squeeze(0);
  }

 private:
  model::TaewDecoder taew_;
};

class LinearPictures : public WanDecoder {
 public:
  using WanDecoder::WanDecoder;
  std::string name() const override { return "linear RGB (no decoder weights given)"; }
  at::Tensor decode(const at::Tensor& latent) const override { return data::linear_rgb(as_wan(latent)); }
};

std::unique_ptr<LatentPictures::Decoder> wan_decoder(const data::LatentHeader& header,
                                                     const configs::DecoderOptions& decoders) {
  if (!decoders.vae.empty()) return std::make_unique<VaeDecoder>(header, decoders.vae);
  if (!decoders.taew.empty()) return std::make_unique<TaewPictures>(header, decoders.taew);
  return std::make_unique<LinearPictures>(header);
}

}  // namespace

bool LatentPictures::is_plot(const data::LatentHeader& header) { return header.codec == kPointsCodec; }

std::unique_ptr<LatentPictures> LatentPictures::make(const data::LatentHeader& header,
                                                     const configs::DecoderOptions& decoders) {
  auto pictures = std::make_unique<LatentPictures>();
  pictures->header_ = header;
  if (is_plot(header)) return pictures;
  const bool is_wan = header.codec == data::kWanCodec;
  if (!is_wan && !(decoders.vae.empty() && decoders.taew.empty()))
    log_warning("decoder weights are for latents of {}; these are {}", data::kWanCodec, header.codec);
  if (is_wan && header.latent_shape[0] != model::kWanVaeChannels) {
    log_warning("no pictures: latents of {} have {} channels, these {}", data::kWanCodec,
                model::kWanVaeChannels, header.latent_shape[0]);
    return nullptr;
  }
  if (is_wan) {
    pictures->decoder_ = wan_decoder(header, decoders);
    return pictures;
  }
  try {
    pictures->decoder_ = std::make_unique<CodecDecoder>(header);
  } catch (const Error& e) {
    log_warning("no pictures: {}", e.what());
    return nullptr;
  }
  return pictures;
}

std::vector<at::Tensor> LatentPictures::videos(const at::Tensor& latents) const {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> videos;
  for (const at::Tensor& latent : latents.to(at::kFloat).unbind(0))
    videos.push_back(decoder_->decode(latent).clamp(-1, 1));
  return videos;
}

double LatentPictures::frames_per_second(int64_t frames) const {
  constexpr double kUnknown = 8;
  if (header_.fps <= 0) return kUnknown;
  // The linear map shows one frame for each latent frame.
  const bool is_shortened = header_.video_frames > 0 && frames < header_.video_frames;
  return is_shortened ? header_.fps * static_cast<double>(frames) / static_cast<double>(header_.video_frames)
                      : header_.fps;
}

at::Tensor LatentPictures::plot(const at::Tensor& data, const at::Tensor& samples) const {
  const auto points = [this](const at::Tensor& latents) {
    return data::denormalise(latents.to(at::kFloat), header_.latent_mean, header_.latent_std).flatten(1);
  };
  return scatter_plot(points(data), points(samples), {0.1, 0.35, 0.8});
}

}  // namespace tmd::orchestrator
