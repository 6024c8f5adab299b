#include "model/wan_vae.h"

#include <cmath>
#include <map>
#include <set>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "expect_digits.h"
#include "integer_hash.h"
#include "model/wan_vae_names.h"
#include "safetensors_example.h"
#include "tests/data/expect_error.h"

namespace tmd::model {
namespace {

using data::expect_error;
using test::expect_digits;
using test::hashed_tensor;
using test::largest_difference;
using test::SafetensorsExample;
using Tensors = std::map<std::string, at::Tensor>;

sharding::UnitSpec unit_of(int64_t width) {
  return declare<WanVaeWeights>("vae", [width](auto& v, auto& w) { visit(v, w, width); });
}

// The self-contained reference: base width 8, every weight from the integer hash, values in float64 from
// independent implementations of the same equations (Wan 10.3). k follows the sorted original names.
constexpr int64_t kWidth = 8;

const Tensors& reference_weights() {
  static const Tensors weights = [] {
    std::map<std::string, sharding::ParamSpec> params;
    for (const auto& param : unit_of(kWidth).params) params.emplace(param.name, param);
    Tensors tensors;
    uint64_t k = 0;
    for (const auto& [name, param] : params) {
      const at::Tensor u = hashed_tensor(k++, param.shape);
      const double fan_in = static_cast<double>(param.elements()) / static_cast<double>(param.shape[0]);
      tensors[name] = name.ends_with("gamma")   ? 1 + 0.2 * u
                      : name.ends_with(".bias") ? 0.1 * u
                                                : u * std::sqrt(3 / fan_in);
    }
    return tensors;
  }();
  return weights;
}

Tensors in_diffusers_names(const Tensors& original) {
  Tensors renamed;
  for (const auto& [name, tensor] : original) renamed[diffusers_vae_name(name)] = tensor;
  return renamed;
}

WanVae load(const Tensors& tensors, at::ScalarType type) {
  return WanVae::load(SafetensorsExample(tensors).open(), type);
}

const WanVae& reference(at::ScalarType type) {
  static const WanVae fp64 = load(reference_weights(), at::kDouble);
  static const WanVae fp32 = load(reference_weights(), at::kFloat);
  return type == at::kDouble ? fp64 : fp32;
}

at::Tensor latent() { return 1.5 * hashed_tensor(2000, {1, 16, 3, 2, 3}); }
at::Tensor video() { return hashed_tensor(2001, {1, 3, 9, 16, 24}); }

// Streams `clip` in chunks of the given numbers of frames and joins the results.
template <class Stream>
at::Tensor in_chunks(const WanVae& vae, const at::Tensor& clip, const std::vector<int64_t>& chunks) {
  Stream stream(vae);
  std::vector<at::Tensor> parts;
  for (const at::Tensor& chunk : clip.split_with_sizes(chunks, 2)) parts.push_back(stream.next(chunk));
  return at::cat(parts, 2);
}

TEST(WanVaeBlocks, norm_of_almost_nothing_is_held_up) {
  at::Tensor x = at::zeros({1, 2, 1, 1, 2}, at::kDouble);
  x[0][0][0][0][0].fill_(3e-13);
  x[0][1][0][0][0].fill_(4e-13);

  const at::Tensor y = channel_norm_silu(x, at::ones({2, 1, 1, 1}, at::kDouble)).flatten();

  const double expected = 0.3 * std::sqrt(2.0);  // 3e-13 / 1e-12, not / 5e-13
  EXPECT_NEAR(y[0].item<double>(), expected / (1 + std::exp(-expected)), 1e-12);
  EXPECT_EQ(y[1].item<double>(), 0);
}

TEST(WanVae, published_width_has_the_published_number_of_parameters) {
  EXPECT_EQ(unit_of(kWanVaeWidth).params.size(), 194u);
  EXPECT_EQ(unit_of(kWanVaeWidth).elements(), 126892531);
  EXPECT_EQ(unit_of(kWidth).elements(), 924491);
}

TEST(WanVae, decoded_video_equals_the_reference_in_float64) {
  const at::Tensor decoded = reference(at::kDouble).decode_unclamped(latent());

  ASSERT_EQ(decoded.sizes(), at::IntArrayRef({1, 3, 9, 16, 24}));
  expect_digits(decoded,
                {{-0.523430109, -0.517731777, -0.617900601, -0.654138923, -0.608638369, -0.505320031},
                 0.350836261,
                 -291.55606,
                 2459.302342893});
  const std::vector<double> frames = {-146.47237, 67.690382,   -88.60701, -38.088112, -70.425642,
                                      15.364483,  -184.091995, 15.444234, 137.629969};
  for (int64_t f = 0; f < 9; ++f) {
    EXPECT_NEAR(decoded.select(2, f).sum().item<double>(), frames[static_cast<size_t>(f)], 5e-7) << f;
  }
}

TEST(WanVae, encoded_latent_equals_the_reference_in_float64) {
  const at::Tensor encoded = reference(at::kDouble).encode(video());

  ASSERT_EQ(encoded.sizes(), at::IntArrayRef({1, 16, 3, 2, 3}));
  expect_digits(encoded,
                {{0.3460876, 0.261785011, 0.401328958, 0.232347693}, -0.00894302, 3.98444293, 58.287894684});
}

TEST(WanVae, float32_is_near_float64) {
  const WanVae& fp32 = reference(at::kFloat);
  EXPECT_EQ(fp32.decode(latent()).scalar_type(), at::kFloat);
  EXPECT_LT(
      largest_difference(fp32.decode_unclamped(latent()), reference(at::kDouble).decode_unclamped(latent())),
      2e-5);
  EXPECT_LT(largest_difference(fp32.encode(video()), reference(at::kDouble).encode(video())), 5e-6);
}

TEST(WanVae, decode_is_clamped) {
  const at::Tensor free = reference(at::kDouble).decode_unclamped(latent());
  ASSERT_GT(free.abs().max().item<double>(), 1.1);
  EXPECT_TRUE(reference(at::kDouble).decode(latent()).equal(free.clamp(-1, 1)));
}

TEST(WanVae, streamed_decode_equals_the_whole_clip) {
  for (const auto& [type, tolerance] : {std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 1e-5}}) {
    const WanVae& vae = reference(type);
    const at::Tensor whole = vae.decode(latent());
    for (const std::vector<int64_t>& chunks : {std::vector<int64_t>{1, 1, 1}, {2, 1}, {1, 2}}) {
      EXPECT_LT(largest_difference(in_chunks<WanVaeDecoderStream>(vae, latent(), chunks), whole), tolerance)
          << type << " first chunk " << chunks[0];
    }
  }
}

TEST(WanVae, streamed_encode_equals_the_whole_clip) {
  for (const auto& [type, tolerance] : {std::pair{at::kDouble, 1e-12}, std::pair{at::kFloat, 1e-5}}) {
    const WanVae& vae = reference(type);
    const at::Tensor whole = vae.encode(video());
    for (const std::vector<int64_t>& chunks : {std::vector<int64_t>{1, 4, 4}, {5, 4}, {1, 8}}) {
      EXPECT_LT(largest_difference(in_chunks<WanVaeEncoderStream>(vae, video(), chunks), whole), tolerance)
          << type << " first chunk " << chunks[0];
    }
  }
}

TEST(WanVae, frame_by_frame_gives_the_same_numbers) {
  const WanVae& vae = reference(at::kDouble);
  EXPECT_LT(largest_difference(vae.decode_by_frames(latent()), vae.decode(latent())), 1e-12);
  EXPECT_LT(largest_difference(vae.encode_by_frames(video()), vae.encode(video())), 1e-12);
}

TEST(WanVae, stream_gives_one_frame_and_then_four_each) {
  WanVaeDecoderStream stream(reference(at::kFloat));
  for (int64_t t = 0; t < 3; ++t) {
    EXPECT_EQ(stream.next(latent().narrow(2, t, 1)).sizes(), at::IntArrayRef({1, 3, t == 0 ? 1 : 4, 16, 24}));
  }
}

TEST(WanVae, one_frame_is_the_first_frame_of_a_clip) {
  const WanVae& vae = reference(at::kDouble);
  EXPECT_LT(largest_difference(vae.decode(latent().narrow(2, 0, 1)), vae.decode(latent()).narrow(2, 0, 1)),
            1e-12);
  EXPECT_LT(largest_difference(vae.encode(video().narrow(2, 0, 1)), vae.encode(video()).narrow(2, 0, 1)),
            1e-12);
}

TEST(WanVae, clips_of_a_batch_do_not_mix) {
  const WanVae& vae = reference(at::kDouble);
  const at::Tensor two = hashed_tensor(2, {2, 16, 2, 3, 2});
  const at::Tensor decoded = vae.decode(two);
  ASSERT_EQ(decoded.sizes(), at::IntArrayRef({2, 3, 5, 24, 16}));
  const at::Tensor encoded = vae.encode(decoded);
  ASSERT_EQ(encoded.sizes(), at::IntArrayRef({2, 16, 2, 3, 2}));
  for (int64_t i = 0; i < 2; ++i) {
    EXPECT_LT(largest_difference(vae.decode(two.narrow(0, i, 1)), decoded.narrow(0, i, 1)), 1e-12);
    EXPECT_LT(largest_difference(vae.encode(decoded.narrow(0, i, 1)), encoded.narrow(0, i, 1)), 1e-12);
  }
}

TEST(WanVae, diffusers_names_give_the_same_bits) {
  const Tensors renamed = in_diffusers_names(reference_weights());
  ASSERT_EQ(renamed.size(), 194u);

  const WanVae vae = load(renamed, at::kDouble);

  EXPECT_EQ(vae.base_width(), kWidth);
  EXPECT_TRUE(vae.decode(latent()).equal(reference(at::kDouble).decode(latent())));
  EXPECT_TRUE(vae.encode(video()).equal(reference(at::kDouble).encode(video())));
}

TEST(WanVaeNames, diffusers_spells_them_so) {
  const std::map<std::string, std::string> names = {
      {"conv1.bias", "quant_conv.bias"},
      {"conv2.weight", "post_quant_conv.weight"},
      {"encoder.conv1.weight", "encoder.conv_in.weight"},
      {"encoder.downsamples.3.shortcut.weight", "encoder.down_blocks.3.conv_shortcut.weight"},
      {"encoder.downsamples.5.time_conv.bias", "encoder.down_blocks.5.time_conv.bias"},
      {"encoder.middle.0.residual.0.gamma", "encoder.mid_block.resnets.0.norm1.gamma"},
      {"encoder.middle.1.norm.gamma", "encoder.mid_block.attentions.0.norm.gamma"},
      {"encoder.middle.2.residual.6.bias", "encoder.mid_block.resnets.1.conv2.bias"},
      {"encoder.head.0.gamma", "encoder.norm_out.gamma"},
      {"encoder.head.2.weight", "encoder.conv_out.weight"},
      {"decoder.conv1.bias", "decoder.conv_in.bias"},
      {"decoder.middle.0.residual.2.weight", "decoder.mid_block.resnets.0.conv1.weight"},
      {"decoder.middle.1.to_qkv.weight", "decoder.mid_block.attentions.0.to_qkv.weight"},
      {"decoder.middle.2.residual.3.gamma", "decoder.mid_block.resnets.1.norm2.gamma"},
      {"decoder.upsamples.4.residual.0.gamma", "decoder.up_blocks.1.resnets.0.norm1.gamma"},
      {"decoder.upsamples.4.shortcut.bias", "decoder.up_blocks.1.resnets.0.conv_shortcut.bias"},
      {"decoder.upsamples.7.resample.1.bias", "decoder.up_blocks.1.upsamplers.0.resample.1.bias"},
      {"decoder.upsamples.14.residual.6.weight", "decoder.up_blocks.3.resnets.2.conv2.weight"},
      {"decoder.head.0.gamma", "decoder.norm_out.gamma"},
      {"decoder.head.2.bias", "decoder.conv_out.bias"}};
  for (const auto& [original, diffusers] : names) EXPECT_EQ(diffusers_vae_name(original), diffusers);
}

TEST(WanVae, sixteen_bit_files_are_widened) {
  Tensors rounded, widened;
  for (const auto& [name, tensor] : reference_weights()) {
    rounded[name] = tensor.to(at::kBFloat16);
    widened[name] = rounded[name].to(at::kFloat);
  }
  EXPECT_TRUE(load(rounded, at::kFloat).decode(latent()).equal(load(widened, at::kFloat).decode(latent())));
}

TEST(WanVae, clips_of_other_shapes_are_refused) {
  const WanVae& vae = reference(at::kFloat);
  const auto refused = [](const std::string& part, auto action) {
    expect_error(ErrorKind::kData, part, action);
  };
  refused("latents [B, 16, T, h, w], not 1x15x1x2x2", [&] { vae.decode(at::zeros({1, 15, 1, 2, 2})); });
  refused("latents [B, 16, T, h, w], not 16x1x2x2", [&] { vae.decode(at::zeros({16, 1, 2, 2})); });
  refused("not 1x16x0x2x2", [&] { vae.decode(at::zeros({1, 16, 0, 2, 2})); });
  refused("videos [B, 3, F, H, W], not 1x1x1x8x8", [&] { vae.encode(at::zeros({1, 1, 1, 8, 8})); });
  refused("4k + 1 frames, not 4", [&] { vae.encode(at::zeros({1, 3, 4, 8, 8})); });
  refused("4k + 1 frames, not 4", [&] { vae.encode_by_frames(at::zeros({1, 3, 4, 8, 8})); });
  refused("not 1x3x0x8x8", [&] { vae.encode_by_frames(at::zeros({1, 3, 0, 8, 8})); });
  refused("not 1x16x0x2x2", [&] { vae.decode_by_frames(at::zeros({1, 16, 0, 2, 2})); });
  refused("multiples of 8, not 12x8", [&] { vae.encode(at::zeros({1, 3, 1, 12, 8})); });
  refused("multiples of 8, not 8x4", [&] { vae.encode(at::zeros({1, 3, 1, 8, 4})); });
}

TEST(WanVae, chunks_that_do_not_continue_the_clip_are_refused) {
  WanVaeDecoderStream decoder(reference(at::kFloat));
  decoder.next(at::zeros({1, 16, 1, 2, 3}));
  expect_error(ErrorKind::kData, "height and width 1, 3, 2; the first one had 1, 2, 3", [&] {
    decoder.next(at::zeros({1, 16, 1, 3, 2}));
  });
  WanVaeEncoderStream encoder(reference(at::kFloat));
  expect_error(ErrorKind::kData, "4k + 1 frames, not 8", [&] { encoder.next(at::zeros({1, 3, 8, 8, 8})); });
  encoder.next(at::zeros({1, 3, 1, 8, 8}));
  expect_error(ErrorKind::kData, "frames, not 5", [&] { encoder.next(at::zeros({1, 3, 5, 8, 8})); });
  expect_error(ErrorKind::kData, "the first one had 1, 8, 8", [&] {
    encoder.next(at::zeros({1, 3, 4, 16, 8}));
  });
  EXPECT_EQ(encoder.next(at::zeros({1, 3, 4, 8, 8})).size(2),
            1);  // a refused chunk leaves the clip as it was
}

TEST(WanVae, tensors_that_do_not_fit_are_named_at_once) {
  Tensors tensors = reference_weights();
  tensors.erase("decoder.head.2.bias");
  tensors["encoder.conv1.bias"] = at::zeros({9}, at::kDouble);
  tensors["decoder.extra"] = at::zeros({2}, at::kDouble);
  for (const std::string part : {"decoder.head.2.bias is missing", "encoder.conv1.bias is [9], not [8]",
                                 "decoder.extra is not in the model", "does not fit the Wan2.1 VAE"}) {
    expect_error(ErrorKind::kData, part, [&] { load(tensors, at::kFloat); });
    const std::string diffusers = part.starts_with("decoder.head") ? "decoder.conv_out.bias is missing"
                                  : part.starts_with("encoder")    ? "encoder.conv_in.bias is [9], not [8]"
                                                                   : part;
    expect_error(ErrorKind::kData, diffusers, [&] { load(in_diffusers_names(tensors), at::kFloat); });
  }
}

std::string hint_of(const Tensors& tensors) {
  try {
    load(tensors, at::kFloat);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kData) << e.what();
    return e.hint();
  }
  return "accepted";
}

TEST(WanVae, other_networks_are_refused) {
  const Tensors transformer = {{"blocks.0.self_attn.q.weight", at::zeros({4, 4})},
                               {"head.head.bias", at::zeros({4})}};
  expect_error(ErrorKind::kData, "decoder.conv1.weight is missing", [&] { load(transformer, at::kFloat); });
  EXPECT_NE(hint_of(transformer).find("give the VAE of Wan2.1"), std::string::npos);

  // The VAE of Wan2.2: 48 latent channels, another width, stages within stages.
  const Tensors newer = {{"conv2.weight", at::zeros({48, 48, 1, 1, 1})},
                         {"decoder.conv1.weight", at::zeros({16, 48, 3, 3, 3})},
                         {"decoder.upsamples.0.upsamples.0.residual.0.gamma", at::zeros({16, 1, 1, 1})}};
  for (const Tensors& tensors : {newer, in_diffusers_names(newer)}) {
    expect_error(ErrorKind::kData, "is [16, 48, 3, 3, 3], not [16, 16, 3, 3, 3]",
                 [&] { load(tensors, at::kFloat); });
    EXPECT_NE(hint_of(tensors).find("VAE of Wan2.2"), std::string::npos) << hint_of(tensors);
  }
}

TEST(WanVae, odd_first_convolutions_are_refused) {
  for (const at::Tensor& odd :
       {at::zeros({}), at::zeros({0}), at::zeros({3, 2}), at::zeros({34, 16, 3, 3, 3})}) {
    Tensors tensors = reference_weights();
    tensors["decoder.conv1.weight"] = odd.to(at::kDouble);
    expect_error(ErrorKind::kData, "decoder.conv1.weight is", [&] { load(tensors, at::kFloat); });
  }
}

}  // namespace
}  // namespace tmd::model
