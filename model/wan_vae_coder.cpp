#include "model/wan_vae_coder.h"

#include <span>
#include <string>

#include <ATen/ATen.h>

namespace tmd::model {
namespace {

using sharding::Initialiser;

struct StageShape {
  int64_t in, out;  // in base widths
  VaeResample resample;
};
constexpr std::array<StageShape, 4> kDecoderStages = {{{4, 4, VaeResample::kUp3d},
                                                       {2, 4, VaeResample::kUp3d},
                                                       {2, 2, VaeResample::kUp2d},
                                                       {1, 1, VaeResample::kNone}}};
constexpr std::array<StageShape, 4> kEncoderStages = {{{1, 1, VaeResample::kDown2d},
                                                       {1, 2, VaeResample::kDown3d},
                                                       {2, 4, VaeResample::kDown3d},
                                                       {4, 4, VaeResample::kNone}}};

void visit_middle(ParameterVisitor& visitor, VaeCoderWeights& coder, const std::string& name,
                  int64_t channels) {
  visit(visitor, coder.middle_before, name + ".0", channels, channels);
  visit(visitor, coder.middle_attention, name + ".1", channels);
  visit(visitor, coder.middle_after, name + ".2", channels, channels);
}

// The original numbers the blocks and the resamplings of all stages in one sequence.
void visit_stages(ParameterVisitor& visitor, VaeCoderWeights& coder, const std::string& name,
                  const std::array<StageShape, 4>& shapes, size_t blocks, int64_t width) {
  int index = 0;
  const auto next_name = [&] { return name + "." + std::to_string(index++); };
  for (size_t s = 0; s < shapes.size(); ++s) {
    const StageShape& shape = shapes[s];
    coder.stages[s].residual.resize(blocks);
    for (size_t b = 0; b < blocks; ++b) {
      visit(visitor, coder.stages[s].residual[b], next_name(), width * (b == 0 ? shape.in : shape.out),
            width * shape.out);
    }
    visit(visitor, coder.stages[s].resample, next_name(), width * shape.out, shape.resample);
  }
}

void visit_head(ParameterVisitor& visitor, VaeCoderWeights& coder, const std::string& name, int64_t in,
                int64_t out) {
  visitor(coder.head_norm, {name + ".0.gamma", {in, 1, 1, 1}, Initialiser::constant(1)});
  visit_conv(visitor, coder.head, name + ".2", {out, in, 3, 3, 3});
}

at::Tensor middle(const VaeCoderWeights& coder, const at::Tensor& x, FrameMemory& memory) {
  const at::Tensor before = residual_forward(coder.middle_before, x, memory);
  return residual_forward(coder.middle_after, attention_forward(coder.middle_attention, before), memory);
}

at::Tensor stages(const VaeCoderWeights& coder, const std::array<StageShape, 4>& shapes, at::Tensor x,
                  FrameMemory& memory) {
  for (size_t s = 0; s < shapes.size(); ++s) {
    for (const VaeResidualWeights& block : coder.stages[s].residual) x = residual_forward(block, x, memory);
    x = resample_forward(coder.stages[s].resample, shapes[s].resample, x, memory);
  }
  return x;
}

at::Tensor head(const VaeCoderWeights& coder, const at::Tensor& x, FrameMemory& memory) {
  return causal_conv(coder.head, channel_norm_silu(x, coder.head_norm), memory);
}

}  // namespace

void visit(ParameterVisitor& visitor, WanVaeWeights& vae, int64_t width) {
  constexpr int64_t kMoments = 2 * kWanVaeChannels;  // mean and log-variance
  visit_conv(visitor, vae.conv2, "conv2", {kWanVaeChannels, kWanVaeChannels, 1, 1, 1});
  visit_conv(visitor, vae.decoder.conv_in, "decoder.conv1", {4 * width, kWanVaeChannels, 3, 3, 3});
  visit_middle(visitor, vae.decoder, "decoder.middle", 4 * width);
  visit_stages(visitor, vae.decoder, "decoder.upsamples", kDecoderStages, 3, width);
  visit_head(visitor, vae.decoder, "decoder.head", width, 3);

  visit_conv(visitor, vae.conv1, "conv1", {kMoments, kMoments, 1, 1, 1});
  visit_conv(visitor, vae.encoder.conv_in, "encoder.conv1", {width, 3, 3, 3, 3});
  visit_stages(visitor, vae.encoder, "encoder.downsamples", kEncoderStages, 2, width);
  visit_middle(visitor, vae.encoder, "encoder.middle", 4 * width);
  visit_head(visitor, vae.encoder, "encoder.head", 4 * width, kMoments);
}

at::Tensor vae_decode_chunk(const WanVaeWeights& vae, const at::Tensor& latent, FrameMemory& memory) {
  memory.begin_chunk();
  const VaeCoderWeights& decoder = vae.decoder;
  at::Tensor x = at::conv3d(latent, vae.conv2.weight, vae.conv2.bias);
  x = middle(decoder, causal_conv(decoder.conv_in, x, memory), memory);
  return head(decoder, stages(decoder, kDecoderStages, x, memory), memory);
}

at::Tensor vae_encode_chunk(const WanVaeWeights& vae, const at::Tensor& video, FrameMemory& memory) {
  memory.begin_chunk();
  const VaeCoderWeights& encoder = vae.encoder;
  at::Tensor x = causal_conv(encoder.conv_in, video, memory);
  x = middle(encoder, stages(encoder, kEncoderStages, x, memory), memory);
  const at::Tensor moments = at::conv3d(head(encoder, x, memory), vae.conv1.weight, vae.conv1.bias);
  return moments.narrow(1, 0, kWanVaeChannels);
}

}  // namespace tmd::model
