#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::data {

enum class ToyShape { kDisc, kSquare, kTriangle, kCross, kWideBar, kTallBar };
std::string_view name(ToyShape shape);

/// The caption's word of motion; it stands for one or more directions, of which a video has one.
enum class ToyMotion {
  kRight,
  kLeft,
  kDown,
  kUp,
  kDownRight,
  kUpRight,
  kDownLeft,
  kUpLeft,
  kHorizontal,  ///< right or left
  kVertical,    ///< down or up
  kStill
};
std::string_view name(ToyMotion motion);
/// Unit vectors (x to the right, y down) that the word allows; the zero vector for kStill.
std::span<const std::array<double, 2>> directions(ToyMotion motion);

inline constexpr int64_t kToyColours = 4;
/// `colour`: 0 to kToyColours - 1; both throw std::out_of_range otherwise.
std::string_view toy_colour_name(int64_t colour);
/// RGB in [0, 1] at full brightness.
std::array<double, 3> toy_colour(int64_t colour);

/// Captioned moving shapes: one bright shape on black moves along a straight line at constant speed and stays
/// inside.
struct ToyShapesSpec {
  int64_t frames = 8;
  int64_t size = 16;  ///< height and width in pixels, even
  std::vector<ToyShape> shapes = {ToyShape::kWideBar, ToyShape::kTallBar};
  int64_t colours = 4;  ///< the first ones of the palette
  std::vector<ToyMotion> motions = {ToyMotion::kHorizontal, ToyMotion::kVertical, ToyMotion::kStill};
  std::vector<double> speeds = {1.0};         ///< pixels per frame, ascending, above 0
  double radius_min = 2.6, radius_max = 2.8;  ///< pixels
  double brightness_min = 0.8;                ///< up to 1
  double edge_width = 1.5;                    ///< pixels over which the edge fades; 1 is a sharp edge
  int64_t text_rows = 4, text_features = 32;

  /// The small CPU setting: the defaults. Soft edges, shapes that differ in many pixels and the word "still"
  /// let a small network learn within minutes what the caption says; with sharp discs and crosses it learns
  /// no motion words.
  static ToyShapesSpec mini() { return {}; }
  /// The setting for one GPU: 16 frames of 32x32; 4 shapes, 4 colours, 8 directions, speeds 0.4 and 0.9: 256
  /// captions.
  static ToyShapesSpec main();

  /// Throws kConfig, naming the field, when no video can be made: empty lists, a value out of range, a path
  /// that does not fit into the picture, a caption that does not fit into text_rows, kStill together with
  /// several speeds.
  void validate() const;
};

/// What the caption says: indices into the spec's shapes, palette, motions and speeds.
struct ShapeLabel {
  int64_t shape = 0, colour = 0, motion = 0, speed = 0;
  bool operator==(const ShapeLabel&) const = default;
};

/// What the caption does not say, each uniform in [0, 1).
struct ShapeJitter {
  double x = 0, y = 0;    ///< start, over the places from which the path stays inside
  double radius = 0;      ///< from radius_min to radius_max
  double brightness = 0;  ///< from brightness_min to 1
  double direction = 0;   ///< which of directions(motion)
};

struct ToyShapesSample {
  at::Tensor video;  // [3, frames, size, size] float32 in [-1, 1]
  ShapeLabel label;
};

/// Number of different captions, and the label of caption 0 to count - 1 (speed fastest).
int64_t toy_caption_count(const ToyShapesSpec& spec);
ShapeLabel toy_caption_label(const ToyShapesSpec& spec, int64_t caption);
/// Shape, colour, motion and, with more than one speed, speed: "disc red left slow". Two speeds are slow and
/// fast, more are speed0, speed1, ... Throws std::out_of_range for a label that is not of the spec, as
/// toy_velocity and render_toy_shape do.
std::vector<std::string> toy_caption_words(const ToyShapesSpec& spec, const ShapeLabel& label);

/// Share of a pixel that the shape covers: 1/2 - distance to the edge / edge_width, clamped to [0, 1]. (dx,
/// dy): the pixel's centre seen from the shape's centre, in pixels.
double toy_coverage(ToyShape shape, double dx, double dy, double radius, double edge_width);

/// Pixels per frame (x to the right, y down).
std::array<double, 2> toy_velocity(const ToyShapesSpec& spec, const ShapeLabel& label,
                                   const ShapeJitter& jitter);

/// [3, frames, size, size] float32 in [-1, 1]: -1 + 2 * colour * brightness * coverage. `spec` is valid.
at::Tensor render_toy_shape(const ToyShapesSpec& spec, const ShapeLabel& label, const ShapeJitter& jitter);

/// Label and jitter of sample `index` of the endless set, and its video: pure functions of (spec, seed,
/// index). Labels are uniform and independent.
ShapeLabel toy_shapes_label(const ToyShapesSpec& spec, uint64_t seed, int64_t index);
ShapeJitter toy_shapes_jitter(uint64_t seed, int64_t index);
ToyShapesSample toy_shapes_sample(const ToyShapesSpec& spec, uint64_t seed, int64_t index);

}  // namespace tmd::data
