#include "data/codec.h"

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "data/dct_codec.h"
#include "data/pixels_codec.h"

namespace tmd::data {
namespace {

at::Tensor per_channel(const at::Tensor& latent, std::span<const float> values) {
  ensure(latent.dim() >= 4 && latent.size(-4) == static_cast<int64_t>(values.size()),
         "mean and std have one number per channel of the latent");
  at::Tensor numbers = at::empty({latent.size(-4), 1, 1, 1}, at::kFloat);
  std::copy(values.begin(), values.end(), numbers.mutable_data_ptr<float>());
  return numbers.to(latent.options());
}

}  // namespace

std::unique_ptr<Codec> make_codec(const std::string& name) {
  if (name == "pixels-2x2") return std::make_unique<PixelsCodec>();
  if (name == "dct-4x8x8") return std::make_unique<DctCodec>();
  if (name == "points-2d") {
    throw Error(ErrorKind::kData, "codec points-2d has no pictures: its latents are points in the plane");
  }
  if (name == kWanCodec) {
    throw Error(ErrorKind::kData, "codec wan2.1-vae has no decoder without weights",
                "name the weights of the Wan VAE or of a small substitute to see pictures");
  }
  throw Error(
      ErrorKind::kData,
      fmt::format("unknown codec \"{}\"; known are pixels-2x2, dct-4x8x8, points-2d, wan2.1-vae", name));
}

at::Tensor normalise(const at::Tensor& latent, std::span<const float> mean, std::span<const float> std) {
  return (latent - per_channel(latent, mean)) / per_channel(latent, std);
}

at::Tensor denormalise(const at::Tensor& latent, std::span<const float> mean, std::span<const float> std) {
  return latent * per_channel(latent, std) + per_channel(latent, mean);
}

}  // namespace tmd::data
