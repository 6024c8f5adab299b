#include "data/toy_file.h"

#include <array>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "data/codec.h"
#include "data/data_set.h"
#include "data/toy_text.h"
#include "tests/data/expect_error.h"
#include "tests/data/small_file.h"
#include "tests/data/temporary_folder.h"

namespace tmd::data {
namespace {

TEST(ToyFile, shapes_round_trip) {
  const TemporaryFolder folder;
  const ToyShapesSpec spec;
  write_toy_shapes(folder / "shapes.h5", spec, 11, 5, 6);
  DataSet set({folder / "shapes.h5"});
  const LatentHeader& header = set.header();
  EXPECT_EQ(header.samples, 6);
  EXPECT_EQ(header.video_frames, spec.frames);
  EXPECT_TRUE(header.has_checksum);
  const std::vector<ShapeLabel> labels = read_toy_labels(folder / "shapes.h5");
  for (int64_t i = 0; i < 6; ++i) {
    const Sample sample = std::get<Sample>(set.read(i));
    const ToyShapesSample expected = toy_shapes_sample(spec, 11, 5 + i);
    const at::Tensor video =
        make_codec(header.codec)->decode(denormalise(sample.latent, header.latent_mean, header.latent_std));
    EXPECT_LT((video - expected.video).abs().max().item<float>(), 1e-6f);
    EXPECT_EQ(labels.at(i), expected.label);
    const auto words = toy_caption_words(spec, expected.label);
    EXPECT_EQ(sample.text_length, static_cast<int64_t>(words.size()));
    EXPECT_EQ(sample.prompt, words[0] + " " + words[1] + " " + words[2]);
    EXPECT_TRUE(sample.text[1].equal(toy_word_vector(words[1], spec.text_features)));
  }
  EXPECT_TRUE(set.negative_text().text[0].equal(toy_word_vector(kToyNegativeWord, spec.text_features)));
}

TEST(ToyFile, statistics_normalise_other_samples) {
  const TemporaryFolder folder;
  write_toy_shapes(folder / "shapes.h5", {}, 12, 0, 256);
  DataSet set({folder / "shapes.h5"});
  std::vector<at::Tensor> latents;
  for (int64_t i = 0; i < set.size(); ++i) latents.push_back(std::get<Sample>(set.read(i)).latent);
  const at::Tensor all = at::stack(latents);
  EXPECT_LT(all.mean({0, 2, 3, 4}).abs().max().item<float>(), 0.1f);
  EXPECT_LT((all.std({0, 2, 3, 4}, true) - 1).abs().max().item<float>(), 0.1f);
}

TEST(ToyFile, statistics_of_the_mini_setting) {
  // Red, green and blue of an independent renderer of the same toy over 8,192 samples.
  const ChannelStatistics statistics = toy_shapes_statistics(ToyShapesSpec::mini());
  constexpr std::array<float, 3> kMean = {-.9063f, -.9056f, -.9467f}, kStd = {.3334f, .3187f, .2382f};
  for (size_t channel = 0; channel < 12; ++channel) {
    EXPECT_NEAR(statistics.mean[channel], kMean[channel / 4], 0.006) << channel;
    EXPECT_NEAR(statistics.std[channel], kStd[channel / 4], 0.012) << channel;
  }
}

TEST(ToyFile, mixture_round_trip) {
  const TemporaryFolder folder;
  write_toy_mixture(folder / "points.h5", {.equal_weights = false}, 2, 0, 20);
  DataSet set({folder / "points.h5"});
  EXPECT_EQ(set.header().codec, "points-2d");
  const Sample sample = std::get<Sample>(set.read(13));
  const at::Tensor point = denormalise(sample.latent, set.header().latent_mean, set.header().latent_std);
  EXPECT_NEAR(point[0].item<float>(), toy_mixture_point({false}, 2, 13).x, 1e-6);
  EXPECT_NEAR(point[1].item<float>(), toy_mixture_point({false}, 2, 13).y, 1e-6);
  EXPECT_TRUE(sample.text.equal(at::ones({1, 4})));
  EXPECT_TRUE(set.negative_text().text.equal(at::zeros({1, 4})));
  EXPECT_EQ(set.negative_text().text_length, 1);
}

TEST(ToyFile, labels_missing) {
  const TemporaryFolder folder;
  write_small_file(folder / "x.h5", small_header());
  expect_error(ErrorKind::kData, "no data set /label", [&] { read_toy_labels(folder / "x.h5"); });
}

}  // namespace
}  // namespace tmd::data
