#include "model/wan_vae.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"
#include "model/wan_vae_names.h"
#include "model/weight_check.h"

namespace tmd::model {
namespace {

constexpr int64_t kSpace = 8, kTime = 4;  // pixels and frames per latent position

const NameInFile kOriginalNames = [](const std::string& name) { return name; };

NameInFile names_of(const SafetensorsFile& file) {
  return file.find("decoder.conv_in.weight") ? diffusers_vae_name : kOriginalNames;
}

// The width that the decoder's first convolution has; that of the published weights where it tells none.
int64_t width_of(const SafetensorsFile& file, const NameInFile& names) {
  const SafetensorsEntry* conv = file.find(names("decoder.conv1.weight"));
  if (!conv || conv->shape.empty() || conv->shape[0] < 4) return kWanVaeWidth;
  return conv->shape[0] / 4;
}

std::string hint_for(const SafetensorsFile& file, const NameInFile& names) {
  const SafetensorsEntry* conv = file.find(names("conv2.weight"));
  if (conv && !conv->shape.empty() && conv->shape[0] == 48) {
    return "this looks like the VAE of Wan2.2, with 48 latent channels; the VAE of Wan2.1 is needed";
  }
  return "give the VAE of Wan2.1 as safetensors, in the names of Wan's own file (decoder.conv1.weight) or of "
         "diffusers (decoder.conv_in.weight)";
}

sharding::UnitSpec declaration(int64_t width) {
  return declare<WanVaeWeights>("wan2.1-vae", [width](auto& v, auto& w) { visit(v, w, width); });
}

void check_latent(const at::Tensor& z) {
  check(z.dim() == 5 && z.size(1) == kWanVaeChannels && z.numel() > 0, ErrorKind::kData,
        fmt::format("the Wan2.1 VAE decodes latents [B, {}, T, h, w], not {}", kWanVaeChannels,
                    fmt::join(z.sizes(), "x")));
}

// `alone`: frames of this chunk that make a latent frame each, 1 where a clip begins.
void check_video(const at::Tensor& video, int64_t alone) {
  check(video.dim() == 5 && video.size(1) == 3 && video.numel() > 0, ErrorKind::kData,
        fmt::format("the Wan2.1 VAE encodes videos [B, 3, F, H, W], not {}", fmt::join(video.sizes(), "x")));
  check(video.size(2) % kTime == alone, ErrorKind::kData,
        fmt::format("the Wan2.1 VAE encodes {} frames, not {}",
                    alone == 1 ? "4k + 1" : "4k later ones after the first", video.size(2)));
  check(video.size(3) % kSpace == 0 && video.size(4) % kSpace == 0, ErrorKind::kData,
        fmt::format("the Wan2.1 VAE encodes heights and widths that are multiples of {}, not {}x{}", kSpace,
                    video.size(3), video.size(4)));
}

// All chunks of a clip have one batch size, height and width.
void check_same_clip(const at::Tensor& chunk, std::vector<int64_t>& clip) {
  const std::vector<int64_t> sizes = {chunk.size(0), chunk.size(3), chunk.size(4)};
  if (clip.empty()) clip = sizes;
  check(sizes == clip, ErrorKind::kData,
        fmt::format("a chunk of a clip has batch, height and width {}; the first one had {}",
                    fmt::join(sizes, ", "), fmt::join(clip, ", ")));
}

at::Tensor per_channel(const std::array<double, kWanVaeChannels>& values, at::ScalarType type) {
  return at::tensor(at::ArrayRef<double>(values), at::kDouble).to(type).view({kWanVaeChannels, 1, 1, 1});
}

}  // namespace

WanVae::WanVae(WanVaeWeights weights, int64_t base_width)
    : weights_(std::make_shared<const WanVaeWeights>(std::move(weights))),
      base_width_(base_width),
      mean_(per_channel(kWanLatentMean, type())),
      std_(per_channel(kWanLatentStd, type())) {}

WanVae WanVae::load(const SafetensorsFile& file, at::ScalarType type) {
  ensure(type == at::kFloat || type == at::kDouble, "the VAE computes in float32 or float64");
  const NameInFile names = names_of(file);
  const int64_t width = width_of(file, names);
  const sharding::UnitSpec unit = declaration(width);
  std::vector<NamedShape> wanted;
  for (const sharding::ParamSpec& param : unit.params) wanted.push_back({names(param.name), param.shape});
  check_tensors(file.path().string(), "Wan2.1 VAE", wanted, shapes_in(file), hint_for(file, names));
  const std::vector<at::Tensor> tensors = read_unit(file, unit, type, names);
  return {model::bind<WanVaeWeights>(tensors, [width](auto& v, auto& w) { visit(v, w, width); }), width};
}

at::Tensor WanVae::decode_unclamped(const at::Tensor& z) const {
  check_latent(z);
  const at::NoGradGuard no_grad;
  FrameMemory memory;
  return vae_decode_chunk(*weights_, z.to(type()) * std_ + mean_, memory);
}

at::Tensor WanVae::decode(const at::Tensor& z) const { return decode_unclamped(z).clamp_(-1, 1); }

at::Tensor WanVae::encode(const at::Tensor& video) const { return WanVaeEncoderStream(*this).next(video); }

at::Tensor WanVae::decode_by_frames(const at::Tensor& z) const {
  check_latent(z);
  WanVaeDecoderStream stream(*this);
  std::vector<at::Tensor> frames;
  for (const at::Tensor& frame : z.split(1, 2)) frames.push_back(stream.next(frame));
  return at::cat(frames, 2);
}

at::Tensor WanVae::encode_by_frames(const at::Tensor& video) const {
  check_video(video, 1);
  WanVaeEncoderStream stream(*this);
  std::vector<at::Tensor> latents = {stream.next(video.narrow(2, 0, 1))};
  for (int64_t frame = 1; frame < video.size(2); frame += kTime)
    latents.push_back(stream.next(video.narrow(2, frame, kTime)));
  return at::cat(latents, 2);
}

at::Tensor WanVaeDecoderStream::next(const at::Tensor& z) {
  check_latent(z);
  check_same_clip(z, clip_);
  const at::NoGradGuard no_grad;
  return vae_decode_chunk(*vae_.weights_, z.to(vae_.type()) * vae_.std_ + vae_.mean_, memory_).clamp_(-1, 1);
}

at::Tensor WanVaeEncoderStream::next(const at::Tensor& video) {
  check_video(video, clip_.empty() ? 1 : 0);
  check_same_clip(video, clip_);
  const at::NoGradGuard no_grad;
  return (vae_encode_chunk(*vae_.weights_, video.to(vae_.type()), memory_) - vae_.mean_) / vae_.std_;
}

}  // namespace tmd::model
