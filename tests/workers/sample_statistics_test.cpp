#include "workers/sample_statistics.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace tmd::workers {
namespace {

const std::vector<int64_t> kShape = {3, 4, 6, 10};

// Channels with a mean and a scale of their own.
at::Tensor latents(int64_t rows, uint64_t seed) {
  const at::Tensor scale = at::tensor({1.0, 2.0, 0.5}).view({1, 3, 1, 1, 1});
  at::manual_seed(seed);
  return (at::randn({rows, 3, 4, 6, 10}) * scale + scale).to(at::kFloat);
}

std::map<std::string, double> diagnostics(const at::Tensor& x_hat, const at::Tensor& data) {
  return sample_diagnostics(sample_sums(x_hat, data), data.size(0), kShape);
}

TEST(SampleStatistics, data_against_itself_is_without_drift) {
  const at::Tensor data = latents(8, 1);
  const auto found = diagnostics(data, data);
  EXPECT_NEAR(found.at("mean_drift"), 0, 1e-9);
  EXPECT_NEAR(found.at("std_drift"), 0, 1e-9);
  EXPECT_NEAR(found.at("std_ratio"), 1, 1e-9);
  EXPECT_NEAR(found.at("motion_ratio"), 1, 1e-9);
  EXPECT_NEAR(found.at("diversity_ratio"), 1, 1e-9);
}

TEST(SampleStatistics, names_the_largest_drift_of_a_channel) {
  const at::Tensor data = latents(8, 2);
  at::Tensor x_hat = data.clone();
  const double std = data.select(1, 1).std(/*unbiased=*/false).item<double>();
  x_hat.select(1, 1).add_(0.7 * std);
  x_hat.select(1, 0).mul_(1.5);
  const auto found = diagnostics(x_hat, data);
  // Channel 0 has a mean of about 1 and a standard deviation of about 1.
  const double mean0 = data.select(1, 0).mean().item<double>();
  const double std0 = data.select(1, 0).std(/*unbiased=*/false).item<double>();
  EXPECT_NEAR(found.at("mean_drift"), std::max(0.7, 0.5 * mean0 / std0), 1e-5);
  EXPECT_NEAR(found.at("std_drift"), 0.5, 1e-5);
}

TEST(SampleStatistics, still_frames_lose_motion_and_keep_their_spread) {
  const at::Tensor data = latents(8, 3);
  const auto found = diagnostics(data.narrow(2, 0, 1).expand_as(data), data);
  EXPECT_NEAR(found.at("motion_ratio"), 0, 1e-12);
  EXPECT_GT(found.at("std_ratio"), 0.9);
}

TEST(SampleStatistics, equal_samples_lose_diversity_alone) {
  const at::Tensor data = latents(16, 4);
  const auto found = diagnostics(data.narrow(0, 0, 1).expand_as(data), data);
  EXPECT_NEAR(found.at("diversity_ratio"), 0, 1e-6);
  EXPECT_GT(found.at("std_ratio"), 0.9);
  EXPECT_NEAR(found.at("motion_ratio"), 1, 0.2);
}

TEST(SampleStatistics, spread_is_that_of_elements_over_the_batch) {
  const at::Tensor data = latents(16, 5);
  const at::Tensor mean = data.mean(0, /*keepdim=*/true);
  EXPECT_NEAR(diagnostics(mean + 0.3 * (data - mean), data).at("diversity_ratio"), 0.3, 1e-5);
}

TEST(SampleStatistics, sums_of_parts_are_those_of_the_whole) {
  const at::Tensor x = latents(8, 6), data = latents(8, 7);
  const at::Tensor parts = sample_sums(x.narrow(0, 0, 3), data.narrow(0, 0, 3)) +
                           sample_sums(x.narrow(0, 3, 5), data.narrow(0, 3, 5));
  EXPECT_TRUE(at::allclose(parts, sample_sums(x, data), 1e-12, 1e-12));
}

TEST(SampleStatistics, what_the_data_do_not_have_is_left_out) {
  const at::Tensor one = latents(1, 8);
  EXPECT_FALSE(diagnostics(one, one).contains("diversity_ratio"));
  const at::Tensor still = one.narrow(2, 0, 1).contiguous();
  const auto found = sample_diagnostics(sample_sums(still, still), 1, {3, 1, 6, 10});
  EXPECT_FALSE(found.contains("motion_ratio"));
  EXPECT_TRUE(found.contains("std_ratio"));
}

TEST(SampleStatistics, what_is_not_finite_shows) {
  const at::Tensor data = latents(4, 9);
  at::Tensor x_hat = data.clone();
  x_hat[1][2][0][0][0] = NAN;
  const auto found = diagnostics(x_hat, data);
  for (const char* name : {"mean_drift", "std_drift", "std_ratio", "motion_ratio", "diversity_ratio"})
    EXPECT_TRUE(std::isnan(found.at(name))) << name;
}

}  // namespace
}  // namespace tmd::workers
