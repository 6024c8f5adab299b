#include "evaluation/latent_features.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/philox.h"

namespace tmd::evaluation {
namespace {

constexpr int64_t kLayouts = 20;

at::Tensor noise(std::vector<int64_t> shape) {
  at::Tensor latents = at::empty(shape, at::kFloat);
  PhiloxStream(3, 0, 0, Purpose::kToy)
      .fill_normal(std::span<float>(latents.mutable_data_ptr<float>(), latents.numel()));
  return latents;
}

at::Tensor part(const at::Tensor& features, int64_t first, int64_t count) {
  return features.narrow(1, first, count);
}

TEST(LatentFeatures, every_shape_has_as_many) {
  for (const auto& shape :
       std::vector<std::vector<int64_t>>{{3, 16, 4, 8, 12}, {1, 2, 1, 1, 1}, {20, 12, 8, 3, 5}}) {
    const at::Tensor features = latent_features(noise(shape));
    EXPECT_EQ(features.sizes(), (std::vector<int64_t>{shape[0], kLatentFeatures}));
    EXPECT_TRUE(features.isfinite().all().item<bool>());
  }
  EXPECT_EQ(latent_feature_smallest_scales().size(), static_cast<size_t>(kLatentFeatures));
}

TEST(LatentFeatures, a_sample_has_the_same_ones_in_any_set) {
  const at::Tensor latents = noise({40, 4, 3, 8, 8});
  const at::Tensor all = latent_features(latents), one = latent_features(latents.narrow(0, 33, 1));
  EXPECT_TRUE(at::allclose(all[33], one[0], 1e-12, 1e-12));
}

TEST(LatentFeatures, a_constant_shift_is_layout_alone) {
  const at::Tensor latents = noise({2, 4, 3, 8, 8});
  const at::Tensor before = latent_features(latents), after = latent_features(latents + 1);
  EXPECT_GT((part(after, 0, kLayouts) - part(before, 0, kLayouts)).norm().item<double>(), 1);
  EXPECT_TRUE(at::allclose(part(after, kLayouts, 12), part(before, kLayouts, 12), 1e-5, 1e-5));
}

TEST(LatentFeatures, texture_is_contrast_motion_and_edges_of_channel_mixtures) {
  const at::Tensor latents = noise({2, 4, 3, 8, 8});
  const at::Tensor features = latent_features(latents);
  // White noise: contrast 1, both kinds of change sqrt 2.
  EXPECT_TRUE(at::allclose(part(features, kLayouts, 4), at::ones({2, 4}, at::kDouble), 0.15));
  EXPECT_TRUE(
      at::allclose(part(features, kLayouts + 4, 8), at::full({2, 8}, std::sqrt(2.0), at::kDouble), 0.2));
  const at::Tensor frozen = latent_features(latents.narrow(2, 0, 1).expand({-1, -1, 3, -1, -1}));
  EXPECT_EQ(part(frozen, kLayouts + 4, 4).abs().max().item<double>(), 0);
  EXPECT_GT(part(frozen, kLayouts + 8, 4).min().item<double>(), 1);
  const at::Tensor flat =
      latent_features(latents.mean(at::IntArrayRef{3, 4}, true).expand({-1, -1, -1, 8, 8}));
  EXPECT_LT(part(flat, kLayouts + 8, 4).abs().max().item<double>(), 1e-9);
}

TEST(LatentFeatures, one_frame_and_one_place_have_no_change) {
  const at::Tensor features = latent_features(noise({2, 4, 1, 1, 1}));
  EXPECT_EQ(part(features, kLayouts, 12).abs().max().item<double>(), 0);
}

TEST(LatentFeatures, other_dimensions_and_values_are_errors) {
  EXPECT_THROW(latent_features(noise({4, 3, 8, 8})), Error);
  EXPECT_THROW(latent_features(at::full({1, 2, 2, 2, 2}, NAN)), Error);
}

}  // namespace
}  // namespace tmd::evaluation
