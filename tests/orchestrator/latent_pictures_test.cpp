#include "orchestrator/latent_pictures.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../data/temporary_folder.h"
#include "../support/error_of.h"
#include "base/error.h"
#include "data/linear_rgb.h"
#include "model/parameters.h"
#include "model/taew.h"
#include "model/wan_vae.h"
#include "orchestrator/tensor_file.h"

namespace tmd::orchestrator {
namespace {

data::LatentHeader wan_header() {
  data::LatentHeader header;
  header.codec = "wan2.1-vae";
  header.latent_shape = {16, 2, 2, 4};
  header.latent_mean.assign(model::kWanLatentMean.begin(), model::kWanLatentMean.end());
  header.latent_std.assign(model::kWanLatentStd.begin(), model::kWanLatentStd.end());
  header.video_frames = 5;
  header.fps = 16;
  return header;
}

at::Tensor latents() { return at::sin(at::arange(16 * 2 * 2 * 4, at::kFloat)).view({1, 16, 2, 2, 4}); }

// Weights of a declared unit with small numbers.
template <class Weights, class Visit>
void write_weights(const std::filesystem::path& path, Visit visit) {
  NamedTensors tensors;
  for (const sharding::ParamSpec& param : model::declare<Weights>("unit", visit).params) {
    const at::Tensor numbers = at::sin(at::arange(param.elements(), at::kFloat) * 0.7).view(param.shape);
    tensors[param.name] = 0.05 * numbers;
  }
  write_tensors(path, tensors);
}

TEST(LatentPictures, without_weights_wan_latents_are_shown_by_the_linear_map) {
  const auto pictures = LatentPictures::make(wan_header(), {});
  EXPECT_EQ(pictures->decoder_name(), "linear RGB (no decoder weights given)");
  const at::Tensor video = pictures->videos(latents())[0];
  EXPECT_TRUE(video.equal(data::linear_rgb(latents()[0])));
  // Two frames stand for five, so they are shown as slowly.
  EXPECT_DOUBLE_EQ(pictures->frames_per_second(video.size(1)), 16 * 2.0 / 5);
  EXPECT_DOUBLE_EQ(pictures->frames_per_second(5), 16);
}

TEST(LatentPictures, the_best_decoder_at_hand_is_taken_and_named) {
  const data::TemporaryFolder folder;
  const std::string vae = folder / "vae.safetensors", taew = folder / "taew.safetensors";
  write_weights<model::TaewWeights>(taew, [](auto& v, auto& w) { visit(v, w); });
  write_weights<model::WanVaeWeights>(vae, [](auto& v, auto& w) { visit(v, w, 8); });

  const auto small = LatentPictures::make(wan_header(), {.vae = "", .taew = taew});
  EXPECT_EQ(small->decoder_name(), "TAEW2.1");
  EXPECT_EQ(small->videos(latents())[0].sizes(), (std::vector<int64_t>{3, 5, 16, 32}));
  const auto best = LatentPictures::make(wan_header(), {.vae = vae, .taew = taew});
  EXPECT_EQ(best->decoder_name(), "Wan2.1 VAE");
  const at::Tensor whole = model::WanVae::load(SafetensorsFile(vae), at::kFloat).decode(latents())[0];
  EXPECT_TRUE(at::allclose(best->videos(latents())[0], whole, 1e-5, 1e-5));
}

TEST(LatentPictures, latents_normalised_otherwise_are_brought_to_those_of_wan) {
  data::LatentHeader other = wan_header();
  other.latent_mean.assign(16, 0.5F);
  other.latent_std.assign(16, 2.0F);
  std::vector<double> mean(model::kWanLatentMean.begin(), model::kWanLatentMean.end());
  std::vector<double> std(model::kWanLatentStd.begin(), model::kWanLatentStd.end());
  const at::Tensor wan_mean = at::tensor(mean).view({16, 1, 1, 1}),
                   wan_std = at::tensor(std).view({16, 1, 1, 1});
  const at::Tensor expected =
      data::linear_rgb((((latents()[0] * 2 + 0.5) - wan_mean) / wan_std).to(at::kFloat));
  EXPECT_TRUE(at::allclose(LatentPictures::make(other, {})->videos(latents())[0], expected, 1e-5, 1e-5));
}

TEST(LatentPictures, a_codec_without_learned_weights_needs_none) {
  data::LatentHeader header;
  header.codec = "pixels-2x2";
  header.latent_shape = {12, 1, 2, 2};
  header.latent_mean.assign(12, 0);
  header.latent_std.assign(12, 1);
  EXPECT_EQ(LatentPictures::make(header, {.vae = "not looked at", .taew = ""})->decoder_name(), "pixels-2x2");
}

TEST(LatentPictures, decoder_weights_that_cannot_be_used_are_refused) {
  const data::TemporaryFolder folder;
  const std::string file = folder / "other.safetensors";
  write_tensors(file, {{"x", at::zeros({2})}});
  EXPECT_THROW(LatentPictures::make(wan_header(), {.vae = file, .taew = ""}), Error);
  const Error absent = test::error_of(
      [&] { LatentPictures::make(wan_header(), {.vae = "", .taew = folder / "absent.safetensors"}); });
  EXPECT_EQ(absent.kind(), ErrorKind::kData);
}

// Such a set is trained on; that there are no pictures of it must not end the run.
TEST(LatentPictures, wan_latents_of_other_channels_have_no_pictures) {
  data::LatentHeader header = wan_header();
  header.latent_shape[0] = 12;
  header.latent_mean.assign(12, 0);
  header.latent_std.assign(12, 1);
  EXPECT_EQ(LatentPictures::make(header, {}), nullptr);
}

}  // namespace
}  // namespace tmd::orchestrator
