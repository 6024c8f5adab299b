#include "evaluation/shape_metrics.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::evaluation {
namespace {

using data::ToyShapesSpec;

constexpr int64_t kSamples = 144;

std::vector<data::ShapeLabel> captions() {
  std::vector<data::ShapeLabel> labels;
  for (int64_t i = 0; i < kSamples; ++i) labels.push_back(toy_caption_label(ToyShapesSpec::mini(), i % 24));
  return labels;
}

at::Tensor real_videos(uint64_t seed) {
  std::vector<at::Tensor> videos;
  const auto labels = captions();
  for (int64_t i = 0; i < kSamples; ++i)
    videos.push_back(render_toy_shape(ToyShapesSpec::mini(), labels[i], data::toy_shapes_jitter(seed, i)));
  return at::stack(videos);
}

const ShapeEvaluation& evaluation() {
  static const ShapeEvaluation once(ToyShapesSpec::mini(), captions(), 5);
  return once;
}

TEST(ShapeEvaluation, real_videos_score_like_the_second_real_set) {
  const ShapeMetrics metrics = evaluation().measure(real_videos(6)), &real = evaluation().real();
  EXPECT_EQ(metrics.samples, kSamples);
  for (const ShapeMetrics* m : {&metrics, &real}) {
    EXPECT_EQ(m->joint.estimate, 1);
    EXPECT_EQ(m->one_object, 1);
    EXPECT_GT(m->coverage, 0.9);
    EXPECT_GT(m->precision, 0.9);
    EXPECT_NEAR(m->position_entropy_ratio, 1, 0.15);
    EXPECT_NEAR(*m->prompt_entropy_ratio, 1, 0.15);
    EXPECT_NEAR(m->speed_ratio.value(), 1, 0.02);
    EXPECT_NEAR(m->motion_energy_ratio, 1, 0.1);
    EXPECT_EQ(m->frechet_floor, real.frechet);
    EXPECT_EQ(m->pixel_sliced_w1_floor, real.pixel_sliced_w1);
  }
  EXPECT_LT(metrics.frechet, 3 * metrics.frechet_floor);
}

TEST(ShapeEvaluation, reference_itself_is_at_distance_zero) {
  const ShapeMetrics metrics = evaluation().measure(real_videos(5));
  EXPECT_LT(metrics.frechet, 1e-9);
  EXPECT_EQ(metrics.pixel_sliced_w1, 0);
  EXPECT_EQ(metrics.path_sliced_w1, 0);
  EXPECT_EQ(metrics.motion_energy_ratio, 1);
  EXPECT_EQ(metrics.position_entropy_ratio, 1);
  EXPECT_EQ(metrics.coverage, 1);
}

TEST(ShapeEvaluation, hits_stand_in_the_order_of_the_samples) {
  at::Tensor videos = real_videos(6);
  videos[3].fill_(-1);
  videos[7].copy_(videos[8]);  // caption 8 where 7 was asked for
  const ShapeMetrics metrics = evaluation().measure(videos);
  ASSERT_EQ(metrics.joint_hits.size(), static_cast<size_t>(kSamples));
  for (int64_t i = 0; i < kSamples; ++i) EXPECT_EQ(metrics.joint_hits[i], i == 3 || i == 7 ? 0 : 1) << i;
  EXPECT_DOUBLE_EQ(metrics.joint.estimate, 1 - 2.0 / kSamples);
  EXPECT_DOUBLE_EQ(metrics.one_object, 1 - 1.0 / kSamples);
  EXPECT_LT(metrics.joint.low, metrics.joint.estimate);
}

TEST(ShapeEvaluation, black_videos_score_nothing_and_do_not_fail) {
  const ShapeMetrics metrics = evaluation().measure(at::full_like(real_videos(6), -1));
  EXPECT_EQ(metrics.joint.estimate, 0);
  EXPECT_EQ(metrics.one_object, 0);
  EXPECT_EQ(metrics.coverage, 0);
  EXPECT_EQ(metrics.position_entropy_ratio, 0);
  EXPECT_EQ(metrics.motion_energy_ratio, 0);
}

TEST(ShapeEvaluation, prompts_with_one_layout_each_are_seen) {
  std::vector<at::Tensor> videos;
  const auto labels = captions();
  for (int64_t i = 0; i < kSamples; ++i)  // the jitter of the prompt's first sample
    videos.push_back(render_toy_shape(ToyShapesSpec::mini(), labels[i], data::toy_shapes_jitter(6, i % 24)));
  const ShapeMetrics metrics = evaluation().measure(at::stack(videos));
  EXPECT_EQ(metrics.joint.estimate, 1);
  EXPECT_EQ(*metrics.prompt_entropy_ratio, 0);
  EXPECT_GT(metrics.position_entropy_ratio, 0.7);
}

TEST(ShapeEvaluation, one_layout_a_prompt_is_no_diversity) {
  EXPECT_NEAR(*evaluation().measure(real_videos(6)).prompt_diversity_ratio, 1, 0.1);
  std::vector<at::Tensor> videos;
  const auto labels = captions();
  for (int64_t i = 0; i < kSamples; ++i)
    videos.push_back(render_toy_shape(ToyShapesSpec::mini(), labels[i], data::toy_shapes_jitter(6, i % 24)));
  const ShapeMetrics metrics = evaluation().measure(at::stack(videos));
  EXPECT_LT(*metrics.prompt_diversity_ratio, 0.01);
  EXPECT_EQ(metrics.values.at("prompt_diversity_ratio").size(), 24u);
}

TEST(ShapeEvaluation, pale_videos_lose_saturation_and_contrast_alike) {
  const ShapeMetrics real = evaluation().measure(real_videos(6));
  EXPECT_NEAR(*real.saturation_ratio, 1, 0.05);
  EXPECT_NEAR(*real.contrast_ratio, 1, 0.05);
  const ShapeMetrics pale = evaluation().measure((real_videos(6) + 1) * 0.7 - 1);
  EXPECT_NEAR(*pale.saturation_ratio / *real.saturation_ratio, 0.7, 1e-3);
  EXPECT_NEAR(*pale.contrast_ratio / *real.contrast_ratio, 0.7, 1e-3);
  const at::Tensor videos = real_videos(6);
  const ShapeMetrics grey = evaluation().measure(videos.mean(at::IntArrayRef{1}, true).expand_as(videos));
  EXPECT_LT(*grey.saturation_ratio, 1e-6);
}

TEST(ShapeEvaluation, teacher_distance_is_0_for_its_samples_and_about_1_for_others) {
  const at::Tensor teacher = real_videos(6);
  EXPECT_FALSE(evaluation().measure(teacher).teacher_distance.has_value());
  EXPECT_EQ(*evaluation().measure(teacher, teacher).teacher_distance, 0);
  EXPECT_NEAR(*evaluation().measure(teacher.roll(1, 0), teacher).teacher_distance, 1, 0.2);
  // Real and teacher move alike, and so half of the brightness has a quarter of the energy of both.
  const ShapeMetrics dim = evaluation().measure((teacher + 1) / 2 - 1, teacher);
  EXPECT_NEAR(*dim.motion_energy_to_teacher, 0.25, 1e-3);
}

TEST(ShapeEvaluation, numbers_are_means_of_their_values) {
  at::Tensor videos = real_videos(6);
  videos[3].fill_(-1);
  const ShapeMetrics m = evaluation().measure(videos, real_videos(7));
  const std::map<std::string, double> expected = {{"joint", m.joint.estimate},
                                                  {"shape", m.shape},
                                                  {"motion", m.motion},
                                                  {"one_object", m.one_object},
                                                  {"precision", m.precision},
                                                  {"residual", *m.residual},
                                                  {"speed_ratio", *m.speed_ratio},
                                                  {"motion_energy_ratio", m.motion_energy_ratio},
                                                  {"teacher_distance", *m.teacher_distance}};
  for (const auto& [key, number] : expected) EXPECT_NEAR(mean_of(m.values.at(key)), number, 1e-9) << key;
}

// A video without an object has no path: it is neither straight nor slow.
TEST(ShapeEvaluation, residual_and_speed_are_of_videos_with_one_object) {
  at::Tensor videos = real_videos(6);
  const ShapeMetrics all = evaluation().measure(videos);
  const int64_t half = videos.size(0) / 2;
  videos.narrow(0, 0, half).fill_(-1);
  const ShapeMetrics some = evaluation().measure(videos);
  EXPECT_NEAR(*some.speed_ratio, *all.speed_ratio, 0.05);
  EXPECT_TRUE(std::isnan(some.values.at("residual")[0]));
  EXPECT_FALSE(std::isnan(some.values.at("residual")[static_cast<size_t>(half)]));
  const ShapeMetrics none = evaluation().measure(at::full_like(videos, -1));
  EXPECT_FALSE(none.residual.has_value());
  EXPECT_FALSE(none.speed_ratio.has_value());
}

TEST(ShapeEvaluation, few_samples_per_prompt_give_no_prompt_entropy) {
  std::vector<data::ShapeLabel> few;
  for (int64_t i = 0; i < 32; ++i) few.push_back(toy_caption_label(ToyShapesSpec::mini(), i));
  EXPECT_FALSE(ShapeEvaluation(ToyShapesSpec::mini(), few, 5).real().prompt_entropy_ratio.has_value());
}

TEST(ShapeEvaluation, bad_input_is_an_error) {
  EXPECT_THROW(evaluation().measure(real_videos(6).narrow(0, 0, 8)), Error);
  at::Tensor videos = real_videos(6);
  videos[70][0][0][0][0] = NAN;
  try {
    evaluation().measure(videos);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kDiverged);
    EXPECT_NE(std::string(error.what()).find("number 70"), std::string::npos) << error.what();
  }
  EXPECT_THROW(ShapeEvaluation(ToyShapesSpec::mini(), {data::ShapeLabel{}}, 5), Error);
  ToyShapesSpec bad;
  bad.colours = 9;
  EXPECT_THROW(ShapeEvaluation(bad, captions(), 5), Error);
}

}  // namespace
}  // namespace tmd::evaluation
