#include "evaluation/shape_rules.h"

#include <cmath>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::evaluation {
namespace {

using data::ShapeLabel;
using data::ToyShapesSpec;

constexpr uint64_t kSeed = 21;

// Shapes that move right, left, down or up at one speed, and never stand still.
ToyShapesSpec arrows() {
  ToyShapesSpec spec;
  spec.shapes = {data::ToyShape::kDisc, data::ToyShape::kCross};
  spec.motions = {data::ToyMotion::kRight, data::ToyMotion::kLeft, data::ToyMotion::kDown,
                  data::ToyMotion::kUp};
  spec.radius_min = 2.75;
  spec.radius_max = 3.25;
  spec.edge_width = 1;
  return spec;
}

// Video of `label` that starts at (x, y) of the free range.
at::Tensor video_at(const ToyShapesSpec& spec, const ShapeLabel& label, double x, double y) {
  return render_toy_shape(spec, label, {.x = x, .y = y, .radius = 0.5, .brightness = 0.5});
}

void expect_all_real_videos_pass(const ToyShapesSpec& spec, int64_t count) {
  const ShapeRules rules(spec);
  for (int64_t i = 0; i < count; ++i) {
    const data::ToyShapesSample sample = toy_shapes_sample(spec, kSeed, i);
    const ShapeReading reading = rules.read(sample.video);
    EXPECT_TRUE(reading.is_one_object) << "sample " << i;
    EXPECT_TRUE(rules.judge(reading, sample.label).joint()) << "sample " << i;
    EXPECT_LT(reading.residual, 0.2) << "sample " << i;
  }
}

TEST(ShapeRules, real_videos_of_the_mini_setting_all_pass) {
  expect_all_real_videos_pass(ToyShapesSpec::mini(), 1024);
}

TEST(ShapeRules, real_videos_with_sharp_edges_all_pass) { expect_all_real_videos_pass(arrows(), 512); }

TEST(ShapeRules, real_videos_of_the_main_setting_all_pass) {
  expect_all_real_videos_pass(ToyShapesSpec::main(), 1024);
}

TEST(ShapeRules, place_velocity_and_colour_are_measured) {
  const ToyShapesSpec spec = ToyShapesSpec::main();
  const ShapeLabel label{.shape = 1, .colour = 2, .motion = 4, .speed = 1};  // square, blue, down right, fast
  const ShapeReading reading = ShapeRules(spec).read(video_at(spec, label, 0.5, 0.5));
  const double speed = 0.9 / std::sqrt(2);
  EXPECT_NEAR(reading.vx, speed, 0.02);
  EXPECT_NEAR(reading.vy, speed, 0.02);
  EXPECT_NEAR(reading.x0, 16 - 7.5 * speed, 0.1);  // the free range lies in the middle of the picture
  EXPECT_NEAR(reading.y0, 16 - 7.5 * speed, 0.1);
  EXPECT_NEAR(reading.mid_x, reading.x0 + 7.5 * reading.vx, 1e-9);
  EXPECT_GT(reading.mean_colour[2], 2.5 * reading.mean_colour[1]);
  EXPECT_EQ(reading.shape_correlation.size(), 4u);
  EXPECT_GT(reading.shape_correlation[1], 0.98);
}

TEST(ShapeRules, wrong_part_of_a_caption_fails_alone) {
  const ToyShapesSpec spec = ToyShapesSpec::main();
  const ShapeRules rules(spec);
  const ShapeLabel label{.shape = 1, .colour = 2, .motion = 4, .speed = 1};
  const ShapeReading reading = rules.read(video_at(spec, label, 0.5, 0.5));
  const auto judged = [&](ShapeLabel other) { return rules.judge(reading, other); };
  EXPECT_TRUE(judged(label).joint());
  const ShapeVerdict shape = judged({.shape = 0, .colour = 2, .motion = 4, .speed = 1});
  EXPECT_TRUE(!shape.shape && shape.colour && shape.motion && shape.speed && !shape.joint());
  const ShapeVerdict colour = judged({.shape = 1, .colour = 3, .motion = 4, .speed = 1});
  EXPECT_TRUE(colour.shape && !colour.colour && colour.motion && colour.speed && !colour.joint());
  const ShapeVerdict motion = judged({.shape = 1, .colour = 2, .motion = 0, .speed = 1});
  EXPECT_TRUE(motion.shape && motion.colour && !motion.motion && motion.speed);
  const ShapeVerdict speed = judged({.shape = 1, .colour = 2, .motion = 4, .speed = 0});
  EXPECT_TRUE(speed.shape && speed.colour && speed.motion && !speed.speed && !speed.joint());
}

TEST(ShapeRules, object_that_stands_still_has_no_direction_and_no_speed) {
  ToyShapesSpec still = arrows();
  still.speeds = {0.1};
  const ShapeRules rules(arrows());
  const ShapeReading reading = rules.read(video_at(still, {}, 0.5, 0.5));
  EXPECT_TRUE(reading.is_one_object);
  EXPECT_EQ(reading.motion, -1);
  EXPECT_EQ(reading.speed, -1);
  const ShapeVerdict verdict = rules.judge(reading, {});
  EXPECT_TRUE(verdict.shape && verdict.colour && !verdict.motion && !verdict.speed);
}

TEST(ShapeRules, axis_allows_both_ways_and_still_allows_none) {
  const ToyShapesSpec spec = ToyShapesSpec::mini();
  const ShapeRules rules(spec);
  for (const double way : {0.1, 0.9}) {
    const data::ShapeJitter jitter{.x = 0.5, .y = 0.5, .direction = way};
    EXPECT_EQ(rules.read(render_toy_shape(spec, {.motion = 0}, jitter)).motion, 0);
    EXPECT_EQ(rules.read(render_toy_shape(spec, {.motion = 1}, jitter)).motion, 1);
  }
  const ShapeReading still = rules.read(video_at(spec, {.motion = 2}, 0.5, 0.5));
  EXPECT_TRUE(rules.judge(still, {.motion = 2}).joint());
  EXPECT_FALSE(rules.judge(still, {.motion = 0}).motion);
  EXPECT_FALSE(rules.judge(rules.read(video_at(spec, {}, 0.5, 0.5)), {.motion = 2}).motion);
}

TEST(ShapeRules, slow_drift_counts_as_still_where_the_spec_has_it) {
  ToyShapesSpec drift = ToyShapesSpec::mini();
  for (const auto& [speed, expected] : {std::pair{0.25, 2}, {0.35, 0}}) {
    drift.speeds = {speed};
    EXPECT_EQ(ShapeRules(ToyShapesSpec::mini()).read(video_at(drift, {}, 0.5, 0.5)).motion, expected)
        << speed;
  }
}

TEST(ShapeRules, one_empty_frame_makes_everything_wrong) {
  const ToyShapesSpec spec = ToyShapesSpec::mini();
  const ShapeRules rules(spec);
  at::Tensor video = video_at(spec, {}, 0.5, 0.5);
  video.select(1, 3).fill_(-1);
  const ShapeReading reading = rules.read(video);
  EXPECT_FALSE(reading.is_one_object);
  const ShapeVerdict verdict = rules.judge(reading, {});
  EXPECT_FALSE(verdict.shape || verdict.colour || verdict.motion || verdict.speed);
}

TEST(ShapeRules, second_object_makes_everything_wrong) {
  const ToyShapesSpec spec = ToyShapesSpec::mini();
  const ShapeRules rules(spec);
  const at::Tensor two = at::maximum(video_at(spec, {}, 0.5, 0), video_at(spec, {}, 0.5, 1));
  EXPECT_TRUE(rules.read(video_at(spec, {}, 0.5, 0)).is_one_object);
  EXPECT_FALSE(rules.read(two).is_one_object);
  EXPECT_FALSE(rules.judge(rules.read(two), {}).joint());
}

TEST(ShapeRules, uniform_pictures_are_no_object) {
  const ToyShapesSpec spec = arrows();
  const ShapeRules rules(spec);
  for (const double value : {-1.0, 0.0, 1.0}) {
    const ShapeReading reading = rules.read(at::full({3, spec.frames, spec.size, spec.size}, value));
    EXPECT_FALSE(reading.is_one_object) << value;
    EXPECT_EQ(reading.shape, -1) << value;
    EXPECT_EQ(reading.motion, -1) << value;
  }
}

TEST(ShapeRules, lone_speed_has_limits_on_both_sides) {
  const ShapeRules rules(arrows());
  for (const auto& [speed, expected] :
       {std::pair{0.3, -1}, {0.5, -1}, {0.7, 0}, {1.0, 0}, {1.3, 0}, {1.45, -1}}) {
    ToyShapesSpec other = arrows();
    other.speeds = {speed};
    other.radius_max = other.radius_min;
    EXPECT_EQ(rules.read(video_at(other, {}, 0, 0.5)).speed, expected) << speed;
  }
}

TEST(ShapeRules, features_stand_in_the_documented_order) {
  const ToyShapesSpec spec = ToyShapesSpec::main();
  const ShapeRules rules(spec);
  ShapeReading reading;
  reading.shape_correlation = {0.1, 0.2, 0.3, 0.4};
  reading.mean_colour = {0.5, 0.6, 0.7};
  reading.x0 = 1;
  reading.y0 = 2;
  reading.vx = 3;
  reading.vy = 4;
  reading.residual = 5;
  reading.mass = 6;
  const at::Tensor features = rules.features(std::vector{reading, reading});
  EXPECT_EQ(features.sizes(), at::IntArrayRef({2, 13}));
  EXPECT_TRUE(
      at::equal(features[1], at::tensor({.1, .2, .3, .4, .5, .6, .7, 1., 2., 3., 4., 5., 6.}, at::kDouble)));
  EXPECT_EQ(rules.smallest_scales().size(), 13u);
}

TEST(ShapeRules, element_type_does_not_matter_but_the_shape_does) {
  const ToyShapesSpec spec = ToyShapesSpec::mini();
  const ShapeRules rules(spec);
  const at::Tensor video = video_at(spec, {}, 0.5, 0.5);
  EXPECT_EQ(rules.read(video.to(at::kDouble)).x0, rules.read(video).x0);
  EXPECT_EQ(rules.read_all(at::stack({video, video}))[1].vx, rules.read(video).vx);
  EXPECT_THROW(rules.read(video.narrow(1, 0, 4)), Error);
}

}  // namespace
}  // namespace tmd::evaluation
