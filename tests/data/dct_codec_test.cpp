#include "data/dct_codec.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "data/latent_file.h"
#include "tests/data/expect_error.h"

namespace tmd::data {
namespace {

// [3, 8, 16, 24] of multiples of 1/16 without symmetry.
at::Tensor busy_video() {
  at::Tensor video = at::empty({3, 8, 16, 24}, at::kFloat);
  float* out = video.mutable_data_ptr<float>();
  for (int c = 0; c < 3; ++c) {
    for (int f = 0; f < 8; ++f) {
      for (int y = 0; y < 16; ++y) {
        for (int x = 0; x < 24; ++x) {
          *out++ = static_cast<float>((c * 7 + f * 5 + y * 3 + x * 11 + (f * y * x) % 13) % 32) / 16.f - 1.f;
        }
      }
    }
  }
  return video;
}

TEST(DctCodec, encode_agrees_with_the_reference_writer) {
  // Computed in Python (numpy, einsum) for the same video: channel c at [c, 1, 0, 2] and [c, 0, 1, 1].
  constexpr float kExpected[16][2] = {
      {-0.839624941f, -0.769749999f},  {0.0076581249f, -0.653419197f}, {0.272543669f, 0.126154408f},
      {0.272065997f, -0.111314058f},   {0.263635904f, -0.272559971f},  {-0.171979994f, 0.35628739f},
      {0.322830707f, -0.225116551f},   {0.0361139216f, 0.241471142f},  {0.131998599f, -0.213310108f},
      {0.134625018f, -0.205750018f},   {-0.125775903f, 0.310948163f},  {-0.340946972f, 0.513478518f},
      {-0.229963869f, -0.0103181163f}, {0.197664112f, 0.303851753f},   {0.726961374f, 0.275125206f},
      {0.0277205613f, -0.0539646931f}};
  const at::Tensor latent = DctCodec().encode(busy_video());
  ASSERT_EQ(latent.sizes(), at::IntArrayRef({16, 2, 2, 3}));
  for (int c = 0; c < 16; ++c) {
    EXPECT_NEAR(latent[c][1][0][2].item<float>(), kExpected[c][0], 2e-6) << c;
    EXPECT_NEAR(latent[c][0][1][1].item<float>(), kExpected[c][1], 2e-6) << c;
  }
}

TEST(DctCodec, constant_colour) {
  // Only the three constant coefficients differ from zero: value times sqrt(4 * 8 * 8) = 16.
  at::Tensor video = at::empty({3, 4, 8, 8}, at::kDouble);
  video[0].fill_(0.5);
  video[1].fill_(-0.25);
  video[2].fill_(1.0);
  const at::Tensor latent = DctCodec().encode(video).flatten();
  const double luma = .299 * .5 + .587 * -.25 + .114;
  at::Tensor expected = at::zeros({16}, at::kDouble);
  expected[0] = 16 * luma;
  expected[10] = 16 * (1 - luma) / 1.772;
  expected[13] = 16 * (.5 - luma) / 1.402;
  EXPECT_LT((latent - expected).abs().max().item<double>(), 1e-12);
  EXPECT_LT((DctCodec().decode(DctCodec().encode(video)) - video).abs().max().item<double>(), 1e-12);
}

TEST(DctCodec, encode_inverts_decode) {
  const DctCodec codec;
  const at::Tensor latent = at::randn({16, 3, 2, 5}, at::kDouble) * 5;
  EXPECT_EQ(codec.decode(latent).sizes(), at::IntArrayRef({3, 12, 16, 40}));
  EXPECT_LT((codec.encode(codec.decode(latent)) - latent).abs().max().item<double>(), 1e-12);
  EXPECT_EQ(codec.decode(latent.to(at::kFloat)).scalar_type(), at::kFloat);
}

TEST(DctCodec, decode_is_the_nearest_video_of_the_kept_coefficients) {
  const DctCodec codec;
  const at::Tensor video = busy_video().to(at::kDouble);
  const at::Tensor projected = codec.decode(codec.encode(video));
  EXPECT_LT((codec.decode(codec.encode(projected)) - projected).abs().max().item<double>(), 1e-12);
}

TEST(DctCodec, real_clips_become_pictures) {
  const LatentFile file("tests/golden/clips_slice.h5");
  const auto& header = file.header();
  const at::Tensor video =
      make_codec(header.codec)
          ->decode(denormalise(file.read_sample(0).latent, header.latent_mean, header.latent_std));
  EXPECT_EQ(video.sizes(),
            at::IntArrayRef({3, header.video_frames, header.video_height, header.video_width}));
  EXPECT_LT(video.abs().max().item<float>(), 1.6f) << "dropping coefficients overshoots a little";
  EXPECT_GT(video.std().item<float>(), 0.1f);
}

TEST(DctCodec, wrong_shapes) {
  expect_error(ErrorKind::kData, "not 3x6x8x8", [] { DctCodec().encode(at::zeros({3, 6, 8, 8})); });
  expect_error(ErrorKind::kData, "not 12x1x1x1", [] { DctCodec().decode(at::zeros({12, 1, 1, 1})); });
}

}  // namespace
}  // namespace tmd::data
