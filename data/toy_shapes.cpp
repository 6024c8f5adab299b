#include "data/toy_shapes.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/philox.h"

namespace tmd::data {
namespace {

constexpr double kDiagonal = 0.70710678118654752;
using Direction = std::array<double, 2>;
// In the order of ToyMotion up to kUpLeft, then the zero vector; an axis takes a pair of them.
constexpr std::array<Direction, 9> kDirections = {{{1, 0},
                                                   {-1, 0},
                                                   {0, 1},
                                                   {0, -1},
                                                   {kDiagonal, kDiagonal},
                                                   {kDiagonal, -kDiagonal},
                                                   {-kDiagonal, kDiagonal},
                                                   {-kDiagonal, -kDiagonal},
                                                   {0, 0}}};
constexpr std::array<std::string_view, 11> kMotionNames = {"right",      "left",     "down",     "up",
                                                           "downright",  "upright",  "downleft", "upleft",
                                                           "horizontal", "vertical", "still"};
constexpr std::array<std::string_view, kToyColours> kColourNames = {"red", "green", "blue", "yellow"};
constexpr std::array<std::array<double, 3>, kToyColours> kColours = {
    {{1, .1, .1}, {.1, 1, .1}, {.15, .3, 1}, {1, .9, .1}}};
constexpr std::array<std::string_view, 6> kShapeNames = {"disc",  "square", "triangle",
                                                         "cross", "wide",   "tall"};

// Sizes in radii, chosen so that every shape covers about the area of the disc.
constexpr double kSquareHalf = 0.89;
constexpr double kCrossLength = 1.15, kCrossHalf = 0.40;
constexpr double kTriangleHalf = 1.35, kTriangleTop = 1.53, kTriangleBottom = 0.77;
constexpr double kBarLong = 1.3, kBarShort = 0.6;

// Signed distance to the edge, negative inside; outside of corners smaller than the true distance.
double edge_distance(ToyShape shape, double dx, double dy, double radius) {
  const double ax = std::abs(dx), ay = std::abs(dy);
  switch (shape) {
    case ToyShape::kDisc:
      return std::sqrt(dx * dx + dy * dy) - radius;
    case ToyShape::kSquare:
      return std::max(ax, ay) - kSquareHalf * radius;
    case ToyShape::kTriangle: {
      const double slope = (kTriangleTop + kTriangleBottom) / kTriangleHalf;
      const double side = (slope * ax - dy - kTriangleTop * radius) / std::sqrt(slope * slope + 1);
      return std::max(dy - kTriangleBottom * radius, side);
    }
    case ToyShape::kCross: {
      const double length = kCrossLength * radius, half = kCrossHalf * radius;
      return std::min(std::max(ax - length, ay - half), std::max(ax - half, ay - length));
    }
    case ToyShape::kWideBar:
      return std::max(ax - kBarLong * radius, ay - kBarShort * radius);
    case ToyShape::kTallBar:
      return std::max(ax - kBarShort * radius, ay - kBarLong * radius);
  }
  return 0;
}

// Half the side of the square around the centre that holds the shape.
double extent(ToyShape shape, double radius) {
  switch (shape) {
    case ToyShape::kDisc:
      return radius;
    case ToyShape::kSquare:
      return kSquareHalf * radius;
    case ToyShape::kTriangle:
      return kTriangleTop * radius;
    case ToyShape::kCross:
      return kCrossLength * radius;
    case ToyShape::kWideBar:
    case ToyShape::kTallBar:
      return kBarLong * radius;
  }
  return radius;
}

void require(bool ok, const std::string& problem) {
  check(ok, ErrorKind::kConfig, "moving shapes: " + problem);
}

double start_coordinate(double uniform, double path, double half, double size) {
  const double low = half + std::max(-path, 0.0), high = size - half - std::max(path, 0.0);
  return low + uniform * (high - low);
}

}  // namespace

std::string_view name(ToyShape shape) { return kShapeNames[static_cast<size_t>(shape)]; }
std::string_view name(ToyMotion motion) { return kMotionNames[static_cast<size_t>(motion)]; }

std::span<const Direction> directions(ToyMotion motion) {
  const std::span<const Direction> all(kDirections);
  switch (motion) {
    case ToyMotion::kHorizontal:
      return all.subspan(0, 2);
    case ToyMotion::kVertical:
      return all.subspan(2, 2);
    case ToyMotion::kStill:
      return all.subspan(8, 1);
    default:
      return all.subspan(static_cast<size_t>(motion), 1);
  }
}

std::string_view toy_colour_name(int64_t colour) { return kColourNames.at(colour); }
std::array<double, 3> toy_colour(int64_t colour) { return kColours.at(colour); }

ToyShapesSpec ToyShapesSpec::main() {
  ToyShapesSpec spec;
  spec.frames = 16;
  spec.size = 32;
  spec.edge_width = 2;  // a whole number of pixels keeps the mass of axis-aligned edges constant on the way
  spec.radius_min = 3.5;
  spec.radius_max = 5.0;
  spec.shapes = {ToyShape::kDisc, ToyShape::kSquare, ToyShape::kTriangle, ToyShape::kCross};
  spec.motions = {ToyMotion::kRight,     ToyMotion::kLeft,    ToyMotion::kDown,     ToyMotion::kUp,
                  ToyMotion::kDownRight, ToyMotion::kUpRight, ToyMotion::kDownLeft, ToyMotion::kUpLeft};
  spec.speeds = {0.4, 0.9};
  return spec;
}

void ToyShapesSpec::validate() const {
  require(frames >= 1 && size >= 2 && size % 2 == 0,
          fmt::format("frames {} and even size {} expected", frames, size));
  require(!shapes.empty() && !motions.empty() && !speeds.empty(),
          "at least one shape, motion and speed expected");
  require(colours >= 1 && colours <= kToyColours,
          fmt::format("colours is {}, expected 1 to {}", colours, kToyColours));
  require(std::ranges::is_sorted(speeds, std::less_equal<>()) && speeds.front() > 0,
          "speeds ascend and are above 0");
  require(speeds.size() == 1 || std::ranges::count(motions, ToyMotion::kStill) == 0,
          "'still' has no speed to caption");
  require(radius_min > 0 && radius_max >= radius_min,
          fmt::format("radius from {} to {}", radius_min, radius_max));
  require(edge_width > 0, fmt::format("edge_width is {}", edge_width));
  require(brightness_min > 0 && brightness_min <= 1, fmt::format("brightness_min is {}", brightness_min));
  const size_t words = speeds.size() > 1 ? 4 : 3;
  require(static_cast<size_t>(text_rows) >= words && text_features >= 1,
          fmt::format("captions have {} words, text_rows is {}", words, text_rows));
  const double path = *std::ranges::max_element(speeds) * static_cast<double>(frames - 1);
  for (const ToyShape shape : shapes) {
    const double needed = path + 2 * extent(shape, radius_max);
    require(needed <= static_cast<double>(size),
            fmt::format("the path of a {} needs {:.1f} pixels, size is {}", tmd::data::name(shape), needed,
                        size));
  }
}

int64_t toy_caption_count(const ToyShapesSpec& spec) {
  return static_cast<int64_t>(spec.shapes.size()) * spec.colours * static_cast<int64_t>(spec.motions.size()) *
         static_cast<int64_t>(spec.speeds.size());
}

ShapeLabel toy_caption_label(const ToyShapesSpec& spec, int64_t caption) {
  ShapeLabel label;
  const auto take = [&caption](int64_t count) { return std::exchange(caption, caption / count) % count; };
  label.speed = take(static_cast<int64_t>(spec.speeds.size()));
  label.motion = take(static_cast<int64_t>(spec.motions.size()));
  label.colour = take(spec.colours);
  label.shape = take(static_cast<int64_t>(spec.shapes.size()));
  return label;
}

std::vector<std::string> toy_caption_words(const ToyShapesSpec& spec, const ShapeLabel& label) {
  std::vector<std::string> words = {std::string(name(spec.shapes.at(label.shape))),
                                    std::string(toy_colour_name(label.colour)),
                                    std::string(name(spec.motions.at(label.motion)))};
  if (spec.speeds.size() == 2) words.push_back(label.speed == 0 ? "slow" : "fast");
  if (spec.speeds.size() > 2) words.push_back(fmt::format("speed{}", label.speed));
  return words;
}

double toy_coverage(ToyShape shape, double dx, double dy, double radius, double edge_width) {
  return std::clamp(0.5 - edge_distance(shape, dx, dy, radius) / edge_width, 0.0, 1.0);
}

std::array<double, 2> toy_velocity(const ToyShapesSpec& spec, const ShapeLabel& label,
                                   const ShapeJitter& jitter) {
  const auto choices = directions(spec.motions.at(label.motion));
  const Direction& direction =
      choices[static_cast<size_t>(jitter.direction * static_cast<double>(choices.size()))];
  const double speed = spec.speeds.at(label.speed);
  return {direction[0] * speed, direction[1] * speed};
}

at::Tensor render_toy_shape(const ToyShapesSpec& spec, const ShapeLabel& label, const ShapeJitter& jitter) {
  const ToyShape shape = spec.shapes.at(label.shape);
  const double radius = spec.radius_min + (spec.radius_max - spec.radius_min) * jitter.radius;
  const double brightness = spec.brightness_min + (1 - spec.brightness_min) * jitter.brightness;
  const auto colour = toy_colour(label.colour);
  const auto [vx, vy] = toy_velocity(spec, label, jitter);
  const auto steps = static_cast<double>(spec.frames - 1), size = static_cast<double>(spec.size);
  const double x0 = start_coordinate(jitter.x, vx * steps, extent(shape, radius), size);
  const double y0 = start_coordinate(jitter.y, vy * steps, extent(shape, radius), size);
  const int64_t plane = spec.frames * spec.size * spec.size;
  at::Tensor video = at::empty({3, spec.frames, spec.size, spec.size}, at::kFloat);
  float* out = video.mutable_data_ptr<float>();
  for (int64_t frame = 0; frame < spec.frames; ++frame) {
    const double cx = x0 + vx * static_cast<double>(frame) - 0.5,
                 cy = y0 + vy * static_cast<double>(frame) - 0.5;
    for (int64_t y = 0; y < spec.size; ++y) {
      for (int64_t x = 0; x < spec.size; ++x, ++out) {
        const double covered = toy_coverage(shape, static_cast<double>(x) - cx, static_cast<double>(y) - cy,
                                            radius, spec.edge_width);
        for (int64_t c = 0; c < 3; ++c)
          out[c * plane] = static_cast<float>(-1 + 2 * colour[c] * brightness * covered);
      }
    }
  }
  return video;
}

ShapeLabel toy_shapes_label(const ToyShapesSpec& spec, uint64_t seed, int64_t index) {
  const PhiloxStream stream(seed, 0, static_cast<uint64_t>(index), Purpose::kToy);
  return toy_caption_label(
      spec, static_cast<int64_t>(stream.below(0, static_cast<uint64_t>(toy_caption_count(spec)))));
}

ShapeJitter toy_shapes_jitter(uint64_t seed, int64_t index) {
  const PhiloxStream stream(seed, 0, static_cast<uint64_t>(index), Purpose::kToy);
  return {stream.uniform(1), stream.uniform(2), stream.uniform(3), stream.uniform(4), stream.uniform(5)};
}

ToyShapesSample toy_shapes_sample(const ToyShapesSpec& spec, uint64_t seed, int64_t index) {
  const ShapeLabel label = toy_shapes_label(spec, seed, index);
  return {render_toy_shape(spec, label, toy_shapes_jitter(seed, index)), label};
}

}  // namespace tmd::data
