#include "evaluation/shape_templates.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace tmd::evaluation {
namespace {

using Offset = std::array<double, 2>;

double mean_brightness(const data::ToyShapesSpec& spec) { return (1 + spec.brightness_min) / 2; }

// Pixels from its centre within which every shape of this radius ends.
double reach_of(const data::ToyShapesSpec& spec, double radius) { return 1.6 * radius + spec.edge_width / 2; }

// Where the centroid of the shape's mass lies, seen from the point that the generator calls its centre:
// measured on a fine grid.
Offset centroid_offset(const data::ToyShapesSpec& spec, data::ToyShape shape, double radius,
                       double background) {
  constexpr double kStep = 0.125;
  const double reach = reach_of(spec, radius), brightness = mean_brightness(spec);
  double sum = 0, x = 0, y = 0;
  for (double dy = -reach; dy <= reach; dy += kStep) {
    for (double dx = -reach; dx <= reach; dx += kStep) {
      const double mass =
          std::max(brightness * data::toy_coverage(shape, dx, dy, radius, spec.edge_width) - background, 0.0);
      sum += mass;
      x += mass * dx;
      y += mass * dy;
    }
  }
  return {x / sum, y / sum};
}

double radius_of(const data::ToyShapesSpec& spec, int64_t number, int64_t count) {
  return spec.radius_min +
         (spec.radius_max - spec.radius_min) * static_cast<double>(number) / static_cast<double>(count - 1);
}

}  // namespace

ShapeTemplates::ShapeTemplates(const data::ToyShapesSpec& spec, double background)
    : background_(background),
      brightness_(mean_brightness(spec)),
      half_(static_cast<int64_t>(std::ceil(reach_of(spec, spec.radius_max))) + 1) {
  for (const data::ToyShape shape : spec.shapes) {
    for (int64_t r = 0; r < kRadii; ++r) {
      const double radius = radius_of(spec, r, kRadii);
      const auto [shift_x, shift_y] = centroid_offset(spec, shape, radius, background);
      for (int64_t step = 0; step < kSteps * kSteps; ++step) {
        const double centre_x = (static_cast<double>(step % kSteps) + 0.5) / kSteps - shift_x;
        const double centre_y = (static_cast<double>(step / kSteps) + 0.5) / kSteps - shift_y;
        for (int64_t y = -half_; y <= half_; ++y) {
          for (int64_t x = -half_; x <= half_; ++x) {
            const double covered =
                data::toy_coverage(shape, static_cast<double>(x) + 0.5 - centre_x,
                                   static_cast<double>(y) + 0.5 - centre_y, radius, spec.edge_width);
            pictures_.push_back(std::max(brightness_ * covered - background, 0.0));
          }
        }
      }
    }
  }
}

const double* ShapeTemplates::picture(int64_t shape, int64_t radius, int64_t row, int64_t column) const {
  const int64_t width = 2 * half_ + 1;
  return pictures_.data() + (((shape * kRadii + radius) * kSteps + row) * kSteps + column) * width * width;
}

double ShapeTemplates::correlation(const FrameMass& frame, int64_t shape, int64_t radius) const {
  const auto pixel_x = static_cast<int64_t>(std::floor(frame.x));
  const auto pixel_y = static_cast<int64_t>(std::floor(frame.y));
  const auto step = [](double place, int64_t pixel) {
    return std::min(static_cast<int64_t>((place - static_cast<double>(pixel)) * kSteps), kSteps - 1);
  };
  const double* pixels = picture(shape, radius, step(frame.y, pixel_y), step(frame.x, pixel_x));
  double sum = 0, sum_squares = 0, product = 0;
  for (int64_t y = std::max(-half_, -pixel_y); y <= std::min(half_, frame.size - 1 - pixel_y); ++y) {
    const double* row = pixels + (y + half_) * (2 * half_ + 1) + half_;
    const double* mass = frame.mass.data() + (pixel_y + y) * frame.size + pixel_x;
    for (int64_t x = std::max(-half_, -pixel_x); x <= std::min(half_, frame.size - 1 - pixel_x); ++x) {
      sum += row[x];
      sum_squares += row[x] * row[x];
      product += row[x] * mass[x];
    }
  }
  const auto count = static_cast<double>(frame.size * frame.size);
  const double variances =
      (frame.sum_squares - frame.sum * frame.sum / count) * (sum_squares - sum * sum / count);
  return variances > 1e-12 ? (product - frame.sum * sum / count) / std::sqrt(variances) : 0;
}

int64_t ShapeTemplates::bright_pixels(int64_t shape, int64_t radius, double threshold) const {
  const int64_t width = 2 * half_ + 1;
  const double* pixels = picture(shape, radius, kSteps / 2, kSteps / 2);
  return std::count_if(pixels, pixels + width * width,
                       [&](double mass) { return mass > 0 && mass + background_ > threshold; });
}

}  // namespace tmd::evaluation
