#include "evaluation/latent_metrics.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/philox.h"

namespace tmd::evaluation {
namespace {

at::Tensor noise(uint64_t seed) {
  at::Tensor latents = at::empty({64, 3, 4, 2, 2}, at::kFloat);
  PhiloxStream(seed, 0, 0, Purpose::kToy)
      .fill_normal(std::span<float>(latents.mutable_data_ptr<float>(), latents.numel()));
  return latents;
}

TEST(LatentMetrics, same_distribution_is_at_the_floor_without_drift) {
  const LatentMetrics metrics = measure_latents(noise(1), noise(2), noise(3), 4);
  EXPECT_EQ(metrics.samples, 64);
  EXPECT_NEAR(metrics.sliced_w1 / metrics.sliced_w1_floor, 1, 0.2);
  EXPECT_NEAR(metrics.sliced_w2 / metrics.sliced_w2_floor, 1, 0.2);
  EXPECT_NEAR(*metrics.temporal_energy_ratio, 1, 0.1);
  EXPECT_LT(metrics.largest_mean_drift(), 0.1);
  EXPECT_LT(metrics.largest_std_drift(), 0.1);
}

TEST(LatentMetrics, frozen_samples_lose_their_temporal_energy_alone) {
  const at::Tensor frozen = noise(1).narrow(2, 0, 1).expand({-1, -1, 4, -1, -1});
  const LatentMetrics metrics = measure_latents(frozen, noise(2), noise(3), 4);
  EXPECT_EQ(*metrics.temporal_energy_ratio, 0);
  EXPECT_LT(metrics.largest_mean_drift(), 0.2);
}

TEST(LatentMetrics, drift_is_told_by_channel_in_deviations_of_the_data) {
  const at::Tensor data = 2 * noise(2);
  at::Tensor samples = data.clone();
  samples.select(1, 1) += 3;
  samples.select(1, 2) *= 0.5;
  const LatentMetrics metrics = measure_latents(samples, data, data, 4);
  EXPECT_NEAR(metrics.mean_drift[0], 0, 1e-6);
  EXPECT_NEAR(metrics.mean_drift[1], 1.5, 0.1);
  EXPECT_NEAR(metrics.std_ratio[1], 1, 1e-6);
  EXPECT_NEAR(metrics.std_ratio[2], 0.5, 1e-6);
  EXPECT_NEAR(metrics.largest_std_drift(), 0.5, 1e-6);
  EXPECT_EQ(metrics.sliced_w1_floor, 0);
  EXPECT_GT(metrics.sliced_w1, 0.1);
}

TEST(LatentMetrics, one_latent_frame_has_no_temporal_energy) {
  const auto first = [](uint64_t seed) { return noise(seed).narrow(2, 0, 1); };
  const LatentMetrics metrics = measure_latents(first(1), first(2), first(3), 4);
  EXPECT_FALSE(metrics.temporal_energy_ratio.has_value());
  EXPECT_TRUE(to_json(metrics)["temporal_energy_ratio"].is_null());
  EXPECT_EQ(latent_metric_cells(metrics).size(), latent_metric_headings().size());
}

TEST(LatentMetrics, other_latent_shape_is_an_error) {
  EXPECT_THROW(measure_latents(noise(1).narrow(1, 0, 2), noise(2), noise(3), 4), Error);
  EXPECT_THROW(measure_latents(noise(1), noise(2), noise(3).flatten(1), 4), Error);
}

}  // namespace
}  // namespace tmd::evaluation
