#include "model/taew.h"

#include <string>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"
#include "model/weight_check.h"

namespace tmd::model {
namespace {

using sharding::Initialiser;

constexpr int64_t kChannels = 16;    // of the latent
constexpr int64_t kExtraFrames = 3;  // that the network makes in front of the video
constexpr std::string_view kPrefix = "decoder.";

struct StageShape {
  int64_t channels, frames, out;  // `frames`: how many one frame becomes
};
constexpr std::array<StageShape, 3> kStages = {{{256, 1, 128}, {128, 2, 64}, {64, 2, 64}}};

void visit_block(ParameterVisitor& visitor, TaewMemoryWeights& block, const std::string& name, int64_t c) {
  visit_conv(visitor, block.conv0, name + ".conv.0", {c, 2 * c, 3, 3});
  visit_conv(visitor, block.conv2, name + ".conv.2", {c, c, 3, 3});
  visit_conv(visitor, block.conv4, name + ".conv.4", {c, c, 3, 3});
}

at::Tensor conv(const at::Tensor& x, const ConvWeights& weights) {
  return at::conv2d(x, weights.weight, weights.bias, 1, 1);
}

// x [B, T, C, H, W] -> the same shape.
at::Tensor memory_block(const TaewMemoryWeights& block, const at::Tensor& x, FrameMemory& memory) {
  at::Tensor& last = memory.next_slot();
  if (!last.defined()) last = at::zeros_like(x.narrow(1, 0, 1));
  const at::Tensor past = at::cat({last, x.narrow(1, 0, x.size(1) - 1)}, 1);
  last = x.narrow(1, x.size(1) - 1, 1).clone();
  const at::Tensor both = at::cat({x, past}, 2).flatten(0, 1);
  const at::Tensor y = conv(at::relu(conv(at::relu(conv(both, block.conv0)), block.conv2)), block.conv4);
  return at::relu(y.view_as(x) + x);
}

// x [B, T, C, H, W] -> [B, s T, C', 2H, 2W].
at::Tensor stage(const TaewStageWeights& weights, const StageShape& shape, at::Tensor x,
                 FrameMemory& memory) {
  for (const TaewMemoryWeights& block : weights.blocks) x = memory_block(block, x, memory);
  // The network enlarges first; a 1x1 convolution gives the same values before, at a quarter of the cost.
  const at::Tensor grown =
      at::conv2d(x.flatten(0, 1), weights.grow).view({-1, shape.channels, x.size(3), x.size(4)});
  const at::Tensor larger = at::upsample_nearest2d(grown, {2 * x.size(3), 2 * x.size(4)});
  return at::conv2d(larger, weights.conv, {}, 1, 1).unflatten(0, {x.size(0), shape.frames * x.size(1)});
}

// z [B, T, 16, h, w] -> [B, 4T, 3, 8h, 8w].
at::Tensor decode_chunk(const TaewWeights& weights, const at::Tensor& z, FrameMemory& memory) {
  memory.begin_chunk();
  const at::Tensor soft_clamped = at::tanh(z.flatten(0, 1) / 3) * 3;
  at::Tensor x = at::relu(conv(soft_clamped, weights.conv_in)).unflatten(0, {z.size(0), z.size(1)});
  for (size_t s = 0; s < kStages.size(); ++s) x = stage(weights.stages[s], kStages[s], x, memory);
  return conv(at::relu(x.flatten(0, 1)), weights.conv_out).unflatten(0, {x.size(0), x.size(1)});
}

}  // namespace

void visit(ParameterVisitor& visitor, TaewWeights& taew) {
  visit_conv(visitor, taew.conv_in, "decoder.1", {kStages[0].channels, kChannels, 3, 3});
  int index = 3;  // 0 and 2 have no weights, nor has the enlargement of each stage
  const auto next_name = [&] { return "decoder." + std::to_string(index++); };
  for (size_t s = 0; s < kStages.size(); ++s) {
    const StageShape& shape = kStages[s];
    TaewStageWeights& weights = taew.stages[s];
    for (TaewMemoryWeights& block : weights.blocks) visit_block(visitor, block, next_name(), shape.channels);
    ++index;
    visitor(weights.grow, {next_name() + ".conv.weight",
                           {shape.frames * shape.channels, shape.channels, 1, 1},
                           Initialiser::constant(0)});
    visitor(weights.conv,
            {next_name() + ".weight", {shape.out, shape.channels, 3, 3}, Initialiser::constant(0)});
  }
  visit_conv(visitor, taew.conv_out, "decoder.22", {3, kStages[2].out, 3, 3});
}

TaewDecoder TaewDecoder::load(const SafetensorsFile& file, at::ScalarType type) {
  ensure(type == at::kFloat || type == at::kDouble, "TAEW2.1 computes in float32 or float64");
  const auto visit_all = [](auto& visitor, auto& weights) { visit(visitor, weights); };
  const sharding::UnitSpec unit = declare<TaewWeights>("taew2.1-decoder", visit_all);
  std::vector<NamedShape> wanted, found;
  for (const sharding::ParamSpec& param : unit.params) wanted.push_back({param.name, param.shape});
  for (NamedShape& tensor : shapes_in(file)) {
    if (tensor.name.starts_with(kPrefix)) found.push_back(std::move(tensor));
  }
  check_tensors(
      file.path().string(), "TAEW2.1 decoder", wanted, found,
      "give taew2_1.safetensors; the files for other video models (taehv, taew2_2) do not fit Wan2.1");
  const std::vector<at::Tensor> tensors =
      read_unit(file, unit, type, [](const std::string& name) { return name; });
  return TaewDecoder(model::bind<TaewWeights>(tensors, visit_all));
}

at::Tensor TaewDecoder::decode_raw(const at::Tensor& z) const {
  check(
      z.dim() == 5 && z.size(1) == kChannels && z.numel() > 0, ErrorKind::kData,
      fmt::format("TAEW2.1 decodes latents [B, {}, T, h, w], not {}", kChannels, fmt::join(z.sizes(), "x")));
  const at::NoGradGuard no_grad;
  FrameMemory memory;
  std::vector<at::Tensor> frames;
  for (const at::Tensor& frame : z.to(type()).transpose(1, 2).split(1, 1)) {
    frames.push_back(decode_chunk(*weights_, frame, memory));
  }
  return at::cat(frames, 1).transpose(1, 2);
}

at::Tensor TaewDecoder::decode(const at::Tensor& z) const {
  const at::Tensor raw = decode_raw(z);
  return raw.narrow(2, kExtraFrames, raw.size(2) - kExtraFrames).clamp(0, 1).mul_(2).sub_(1);
}

}  // namespace tmd::model
