#include "data/codec.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/data/expect_error.h"

namespace tmd::data {
namespace {

TEST(MakeCodec, known_names) {
  EXPECT_EQ(make_codec("pixels-2x2")->name(), "pixels-2x2");
  EXPECT_EQ(make_codec("dct-4x8x8")->name(), "dct-4x8x8");
}

TEST(MakeCodec, refused_names) {
  expect_error(ErrorKind::kData, "has no pictures", [] { make_codec("points-2d"); });
  expect_error(ErrorKind::kData, "without weights", [] { make_codec("wan2.1-vae"); });
  expect_error(ErrorKind::kData, "unknown codec \"jpeg\"; known are pixels-2x2, dct-4x8x8",
               [] { make_codec("jpeg"); });
}

TEST(Normalise, per_channel_with_and_without_batch) {
  const std::vector<float> mean = {1, -2}, std = {2, 0.5};
  const at::Tensor latent = at::arange(16, at::kFloat).reshape({2, 2, 2, 2});
  const at::Tensor normal = normalise(latent, mean, std);
  EXPECT_EQ(normal[0][0][0][0].item<float>(), -0.5f);
  EXPECT_EQ(normal[1][0][0][0].item<float>(), 20.f);
  EXPECT_TRUE(denormalise(normal, mean, std).equal(latent));
  EXPECT_TRUE(normalise(at::stack({latent, latent}), mean, std)[1].equal(normal));
  EXPECT_EQ(normalise(latent.to(at::kDouble), mean, std).scalar_type(), at::kDouble);
  expect_error(ErrorKind::kInternal, "one number per channel",
               [&] { normalise(latent, std::vector<float>{1}, std::vector<float>{1}); });
}

}  // namespace
}  // namespace tmd::data
