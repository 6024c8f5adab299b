#include "evaluation/shape_rules.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"

namespace tmd::evaluation {
namespace {

constexpr double kPathWeight = 3;

struct LineFit {
  double start, slope, mean, residual;  // residual: mean square distance
};

// Least squares over frame numbers 0, 1, ...
template <class Coordinate>
LineFit fit_line(std::span<const FrameMass> frames, Coordinate coordinate) {
  const auto count = static_cast<double>(frames.size());
  const double middle = (count - 1) / 2;
  double mean = 0, product = 0, squares = 0;
  for (size_t f = 0; f < frames.size(); ++f) {
    const double time = static_cast<double>(f) - middle;
    mean += coordinate(frames[f]) / count;
    product += time * coordinate(frames[f]);
    squares += time * time;
  }
  const double slope = squares > 0 ? product / squares : 0;
  double residual = 0;
  for (size_t f = 0; f < frames.size(); ++f) {
    const double off = coordinate(frames[f]) - mean - slope * (static_cast<double>(f) - middle);
    residual += off * off / count;
  }
  return {mean - slope * middle, slope, mean, residual};
}

std::array<double, 3> at_full_brightness(std::array<double, 3> colour) {
  const double largest = std::max({colour[0], colour[1], colour[2], 1e-9});
  for (double& channel : colour) channel /= largest;
  return colour;
}

}  // namespace

ShapeRules::ShapeRules(const data::ToyShapesSpec& spec, const ShapeRuleOptions& options)
    : spec_(spec), options_(options), templates_(spec, options.background) {
  slowest_motion_ = std::ranges::count(spec.motions, data::ToyMotion::kStill) > 0
                        ? options.still_share * *std::ranges::min_element(spec.speeds)
                        : options.min_speed;
  smallest_object_ = spec.size * spec.size;
  largest_object_ = 0;
  for (int64_t shape = 0; shape < static_cast<int64_t>(spec.shapes.size()); ++shape) {
    smallest_object_ =
        std::min(smallest_object_, templates_.bright_pixels(shape, 0, options.object_threshold));
    largest_object_ = std::max(
        largest_object_, templates_.bright_pixels(shape, templates_.radii() - 1, options.object_threshold));
  }
}

ShapeReading ShapeRules::read(const at::Tensor& video) const {
  ensure(video.dim() == 4 && video.size(0) == 3 && video.size(1) == spec_.frames &&
             video.size(2) == spec_.size && video.size(3) == spec_.size,
         "a video of the moving shapes is [3, frames, size, size]");
  const at::Tensor pixels = video.detach().to(at::TensorOptions(at::kCPU).dtype(at::kFloat)).contiguous();
  std::vector<FrameMass> frames;
  for (int64_t f = 0; f < spec_.frames; ++f) frames.push_back(measure_frame(pixels, f, options_.background));
  ShapeReading reading;
  reading.is_one_object =
      std::ranges::all_of(frames, [this](const FrameMass& frame) { return is_one_object(frame); });
  for (const FrameMass& frame : frames) reading.mass += frame.sum / static_cast<double>(frames.size());
  read_shape(frames, reading);
  read_colour(frames, reading);
  read_motion(frames, reading);
  return reading;
}

std::vector<ShapeReading> ShapeRules::read_all(const at::Tensor& videos) const {
  const at::Tensor pixels = videos.detach().to(at::TensorOptions(at::kCPU).dtype(at::kFloat)).contiguous();
  std::vector<ShapeReading> readings;
  for (int64_t i = 0; i < pixels.size(0); ++i) readings.push_back(read(pixels[i]));
  return readings;
}

bool ShapeRules::is_one_object(const FrameMass& frame) const {
  const std::vector<int64_t> regions = bright_regions(frame, options_.object_threshold);
  const auto smallest = static_cast<double>(smallest_object_), largest = static_cast<double>(largest_object_);
  if (regions.empty()) return false;
  const auto first = static_cast<double>(regions[0]);
  const auto second = regions.size() > 1 ? static_cast<double>(regions[1]) : 0.0;
  return first >= options_.min_object_share * smallest && first <= options_.max_object_share * largest &&
         second < options_.second_object_share * smallest;
}

void ShapeRules::read_shape(std::span<const FrameMass> frames, ShapeReading& reading) const {
  for (int64_t shape = 0; shape < static_cast<int64_t>(spec_.shapes.size()); ++shape) {
    double best = -1;
    for (int64_t radius = 0; radius < templates_.radii(); ++radius) {
      double mean = 0;
      for (const FrameMass& frame : frames)
        mean += templates_.correlation(frame, shape, radius) / static_cast<double>(frames.size());
      best = std::max(best, mean);
    }
    reading.shape_correlation.push_back(best);
  }
  const auto best = std::ranges::max_element(reading.shape_correlation);
  if (*best >= options_.min_correlation) reading.shape = best - reading.shape_correlation.begin();
}

void ShapeRules::read_colour(std::span<const FrameMass> frames, ShapeReading& reading) const {
  double mass = 0;
  for (const FrameMass& frame : frames) {
    mass += frame.sum;
    for (size_t c = 0; c < 3; ++c) reading.mean_colour[c] += frame.colour[c];
  }
  if (mass == 0) return;
  for (double& channel : reading.mean_colour) channel /= mass;
  const auto seen = at_full_brightness(reading.mean_colour);
  double nearest = 0;
  for (int64_t colour = 0; colour < spec_.colours; ++colour) {
    const auto entry = at_full_brightness(data::toy_colour(colour));
    double distance = 0;
    for (size_t c = 0; c < 3; ++c) distance += (seen[c] - entry[c]) * (seen[c] - entry[c]);
    if (reading.colour < 0 || distance < nearest) {
      nearest = distance;
      reading.colour = colour;
    }
  }
}

void ShapeRules::read_motion(std::span<const FrameMass> frames, ShapeReading& reading) const {
  const LineFit x = fit_line(frames, [](const FrameMass& frame) { return frame.x; });
  const LineFit y = fit_line(frames, [](const FrameMass& frame) { return frame.y; });
  reading.x0 = x.start;
  reading.y0 = y.start;
  reading.vx = x.slope;
  reading.vy = y.slope;
  reading.mid_x = x.mean;
  reading.mid_y = y.mean;
  reading.residual = std::sqrt(x.residual + y.residual);
  const double speed = std::hypot(reading.vx, reading.vy);
  if (speed < slowest_motion_) {
    const auto still = std::ranges::find(spec_.motions, data::ToyMotion::kStill);
    if (still == spec_.motions.end()) return;
    reading.motion = still - spec_.motions.begin();
    reading.speed = 0;
  } else {
    reading.motion = moving_word(reading.vx, reading.vy);
    reading.speed = speed_class(speed);
  }
}

int64_t ShapeRules::moving_word(double vx, double vy) const {
  int64_t found = -1;
  double best = 0;
  for (size_t word = 0; word < spec_.motions.size(); ++word) {
    if (spec_.motions[word] == data::ToyMotion::kStill) continue;
    for (const auto& [ux, uy] : data::directions(spec_.motions[word])) {
      const double along = ux * vx + uy * vy;
      if (found >= 0 && along <= best) continue;
      best = along;
      found = static_cast<int64_t>(word);
    }
  }
  return found;
}

int64_t ShapeRules::speed_class(double speed) const {
  if (spec_.speeds.size() == 1) {
    return std::abs(speed / spec_.speeds[0] - 1) <= options_.lone_speed_tolerance ? 0 : -1;
  }
  int64_t found = 0;
  for (size_t next = 1; next < spec_.speeds.size(); ++next) {
    if (speed > (spec_.speeds[next - 1] + spec_.speeds[next]) / 2) found = static_cast<int64_t>(next);
  }
  return found;
}

ShapeVerdict ShapeRules::judge(const ShapeReading& reading, const data::ShapeLabel& label) const {
  if (!reading.is_one_object) return {};
  return {reading.shape == label.shape, reading.colour == label.colour, reading.motion == label.motion,
          reading.speed == label.speed};
}

at::Tensor ShapeRules::features(std::span<const ShapeReading> readings) const {
  std::vector<double> rows;
  for (const ShapeReading& r : readings) {
    rows.insert(rows.end(), r.shape_correlation.begin(), r.shape_correlation.end());
    rows.insert(rows.end(), r.mean_colour.begin(), r.mean_colour.end());
    rows.insert(rows.end(), {r.x0, r.y0, r.vx, r.vy, r.residual, r.mass});
  }
  return at::tensor(rows, at::kDouble).view({static_cast<int64_t>(readings.size()), -1});
}

std::vector<double> ShapeRules::feature_weights() const {
  std::vector<double> weights(spec_.shapes.size() + 3, 1.0);
  weights.insert(weights.end(), {kPathWeight, kPathWeight, kPathWeight, kPathWeight, 1, 1});
  return weights;
}

std::vector<double> ShapeRules::smallest_scales() const {
  const double radius = (spec_.radius_min + spec_.radius_max) / 2;
  std::vector<double> scales(spec_.shapes.size(), 0.1);
  scales.insert(scales.end(), {0.1, 0.1, 0.1, 1, 1, 0.1, 0.1, 0.2, 0.1 * std::numbers::pi * radius * radius});
  return scales;
}

}  // namespace tmd::evaluation
