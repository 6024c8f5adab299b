#include "evaluation/mixture_metrics.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace tmd::evaluation {
namespace {

constexpr int64_t kSamples = 4096;

at::Tensor real(const data::ToyMixtureSpec& spec, uint64_t seed) {
  return data::toy_mixture_latents(spec, seed, 0, kSamples).flatten(1).to(at::kDouble) *
         data::kToyMixtureScale;
}

TEST(MixtureMetrics, real_points_are_at_the_floors) {
  for (const bool equal : {true, false}) {
    const data::ToyMixtureSpec spec{.equal_weights = equal};
    const MixtureMetrics metrics = measure_mixture(real(spec, 1), spec, 2);
    EXPECT_EQ(metrics.samples, kSamples);
    EXPECT_EQ(metrics.modes_covered, 8);
    EXPECT_LT(metrics.sliced_w2, 3 * metrics.sliced_w2_floor);
    EXPECT_LT(metrics.mode_tv, 0.03);
    EXPECT_LT(metrics.mode_tv_floor, 0.03);
    EXPECT_LT(metrics.junk, 0.002);
  }
}

TEST(MixtureMetrics, lost_mode_is_counted_and_weighed) {
  at::Tensor points = real({}, 1);
  // The points of mode 0, on the positive x axis, go to mode 4 on the other side.
  const at::Tensor is_lost = (points.select(1, 0) > 3).logical_and(points.select(1, 1).abs() < 1.5);
  points = at::where(is_lost.unsqueeze(1), -points, points);
  const MixtureMetrics metrics = measure_mixture(points, {}, 2);
  EXPECT_EQ(metrics.modes_covered, 7);
  EXPECT_NEAR(metrics.mode_tv, 0.125, 0.02);
  EXPECT_LT(metrics.junk, 0.002);
  EXPECT_GT(metrics.sliced_w2, 2 * metrics.sliced_w2_floor);
}

TEST(MixtureMetrics, wrong_weights_show_in_total_variation_alone) {
  const MixtureMetrics metrics = measure_mixture(real({}, 1), {.equal_weights = false}, 2);
  EXPECT_EQ(metrics.modes_covered, 8);
  EXPECT_NEAR(metrics.mode_tv, 0.285, 0.02);  // (.3 + .22 + .155 - 3/8 + ...) / 2 of the two lists of weights
  EXPECT_LT(metrics.junk, 0.002);
}

TEST(MixtureMetrics, points_between_modes_are_junk_and_cover_nothing) {
  const MixtureMetrics metrics = measure_mixture(real({}, 1) * 0.5, {}, 2);
  EXPECT_EQ(metrics.modes_covered, 0);
  EXPECT_EQ(metrics.junk, 1);
  EXPECT_LT(metrics.mode_tv, 0.03);
}

TEST(MixtureMetrics, points_drawn_together_are_less_diverse) {
  EXPECT_NEAR(measure_mixture(real({}, 1), {}, 2).diversity_ratio, 1, 0.03);
  EXPECT_NEAR(measure_mixture(real({}, 1) * 0.5, {}, 2).diversity_ratio, 0.5, 0.02);
}

TEST(MixtureMetrics, teacher_distance_is_0_for_its_points_and_1_for_others) {
  const at::Tensor points = real({}, 1);
  EXPECT_FALSE(measure_mixture(points, {}, 2).teacher_distance.has_value());
  EXPECT_EQ(measure_mixture(points, {}, 2, points).teacher_distance, 0);
  const MixtureMetrics other = measure_mixture(points.roll(1, 0), {}, 2, points);
  EXPECT_NEAR(*other.teacher_distance, 1, 0.05);
  EXPECT_EQ(other.values.at("teacher_distance").size(), static_cast<size_t>(kSamples));
}

TEST(MixtureMetrics, junk_is_the_mean_of_its_values) {
  const MixtureMetrics metrics = measure_mixture(at::cat({real({}, 1), real({}, 2) * 0.5}), {}, 3);
  EXPECT_NEAR(metrics.junk, 0.5, 0.01);
  EXPECT_DOUBLE_EQ(mean_of(metrics.values.at("junk")), metrics.junk);
}

TEST(MixtureMetrics, latent_shape_is_taken_and_another_width_is_an_error) {
  const at::Tensor points = real({}, 1);
  EXPECT_EQ(measure_mixture(points.view({-1, 2, 1, 1, 1}), {}, 2).sliced_w2,
            measure_mixture(points, {}, 2).sliced_w2);
  EXPECT_THROW(measure_mixture(at::ones({8, 3}), {}, 2), Error);
}

TEST(MixtureMetrics, table_row_and_json_hold_the_numbers) {
  const MixtureMetrics metrics{
      .samples = 5, .sliced_w2 = 0.25, .modes_covered = 7, .mode_tv = 0.125, .junk = 0.5};
  EXPECT_EQ(mixture_metric_headings().size(), mixture_metric_cells(metrics).size());
  EXPECT_EQ(mixture_metric_cells(metrics)[2], "7/8");
  EXPECT_EQ(to_json(metrics)["mode_tv"], 0.125);
}

}  // namespace
}  // namespace tmd::evaluation
