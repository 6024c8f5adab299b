#include "evaluation/shape_templates.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace tmd::evaluation {
namespace {

constexpr double kBackground = 0.15;

FrameMass frame_of(const data::ToyShapesSpec& spec, int64_t shape, double x, double radius) {
  const data::ShapeLabel label{.shape = shape};
  return measure_frame(
      render_toy_shape(spec, label, {.x = x, .y = 0.37, .radius = radius, .brightness = 0.5}), 2,
      kBackground);
}

TEST(ShapeTemplates, own_shape_at_its_radius_fits_best_at_every_place) {
  const data::ToyShapesSpec spec = data::ToyShapesSpec::main();
  const ShapeTemplates templates(spec, kBackground);
  for (int64_t shape = 0; shape < 4; ++shape) {
    for (double x = 0; x < 1; x += 0.093) {
      const FrameMass frame = frame_of(spec, shape, x, 0.5);
      EXPECT_GT(templates.correlation(frame, shape, 1), 0.99) << "shape " << shape << " at " << x;
      for (int64_t other = 0; other < 4; ++other) {
        if (other == shape) continue;
        EXPECT_LT(templates.correlation(frame, other, 1), 0.98) << shape << " taken for " << other;
      }
    }
  }
}

TEST(ShapeTemplates, radius_tells) {
  const data::ToyShapesSpec spec = data::ToyShapesSpec::main();
  const ShapeTemplates templates(spec, kBackground);
  const FrameMass small = frame_of(spec, 0, 0.5, 0);
  EXPECT_GT(templates.correlation(small, 0, 0), templates.correlation(small, 0, 1));
  EXPECT_GT(templates.correlation(small, 0, 1), templates.correlation(small, 0, 2));
}

TEST(ShapeTemplates, correlation_is_that_of_the_definition) {
  // Against the coefficient from whole pictures: the frame is the template itself, at another brightness.
  const data::ToyShapesSpec spec = data::ToyShapesSpec::mini();
  const ShapeTemplates templates(spec, 0);
  const data::ShapeLabel label{};
  const at::Tensor video =
      render_toy_shape(spec, label, {.x = 0.5, .y = 0.5, .radius = 0.5, .brightness = 0});
  const double correlation = templates.correlation(measure_frame(video, 0, 0), 0, 1);
  EXPECT_GT(correlation, 0.99);
  EXPECT_LE(correlation, 1 + 1e-12);
}

TEST(ShapeTemplates, frame_without_contrast_has_none) {
  const data::ToyShapesSpec spec = data::ToyShapesSpec::mini();
  const ShapeTemplates templates(spec, kBackground);
  for (const double value : {-1.0, 1.0}) {
    const FrameMass frame = measure_frame(at::full({3, 1, 16, 16}, value, at::kFloat), 0, kBackground);
    EXPECT_NEAR(templates.correlation(frame, 0, 1), 0, 1e-6);
  }
}

TEST(ShapeTemplates, bright_pixels_are_about_the_area_of_the_disc) {
  data::ToyShapesSpec spec;
  spec.shapes = {data::ToyShape::kDisc};
  spec.radius_min = spec.radius_max = 3;
  spec.edge_width = spec.brightness_min = 1;
  const ShapeTemplates templates(spec, kBackground);
  EXPECT_NEAR(static_cast<double>(templates.bright_pixels(0, 1, 0.5)), 3.1416 * 9, 3);
}

}  // namespace
}  // namespace tmd::evaluation
