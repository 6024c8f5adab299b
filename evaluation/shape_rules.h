#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "data/toy_shapes.h"
#include "evaluation/shape_templates.h"

namespace tmd::evaluation {

/// Limits of the rules. Brightness is 0 to 1.
struct ShapeRuleOptions {
  double background = 0.1;         ///< brightness that still counts as black
  double object_threshold = 0.35;  ///< brightness that surely belongs to an object
  double min_object_share = 0.4;   ///< an object has at least this share of the pixels of the smallest shape
  double max_object_share = 2.0;   ///< and at most this multiple of those of the largest
  /// A second region with this share of the pixels of the smallest shape is a second object.
  double second_object_share = 0.25;
  double min_correlation = 0.5;  ///< with the best template; below, no shape is recognised
  double min_speed = 0.15;       ///< pixels per frame; below, nothing moves
  /// With ToyMotion::kStill in the spec, below this share of the slowest speed instead.
  double still_share = 0.3;
  /// With one speed in the spec: relative distance from it that still counts as it.
  double lone_speed_tolerance = 0.4;
};

/// What the rules see in one video of moving shapes, without looking at its caption.
struct ShapeReading {
  bool is_one_object = false;  ///< every frame holds exactly one object
  /// Indices as in data::ShapeLabel; -1: none is recognised, as for an object that stands still where the
  /// spec has no ToyMotion::kStill, or for a speed far from those of the spec. A still object has speed 0.
  int64_t shape = -1, colour = -1, motion = -1, speed = -1;
  std::vector<double> shape_correlation;   ///< with each shape of the spec at its best radius, mean of frames
  std::array<double, 3> mean_colour = {};  ///< RGB 0 to 1, mean weighted with mass
  double x0 = 0, y0 = 0;                   ///< fitted centroid in frame 0, pixels
  double vx = 0, vy = 0;                   ///< fitted velocity, pixels per frame
  double residual = 0;                     ///< rms distance of the centroids from the fit, pixels
  double mass = 0;                         ///< mean over frames of brightness above background, pixels
  double mid_x = 0, mid_y = 0;             ///< mean centroid: the place half-way along the path
};

/// Which parts of a caption a video obeys.
struct ShapeVerdict {
  bool shape = false, colour = false, motion = false, speed = false;
  bool joint() const { return shape && colour && motion && speed; }
};

/// Rules that judge videos of the moving-shapes toy without a trained network; real videos pass without
/// exception.
///   colour    = palette entry nearest to the mass-weighted mean colour, both at full brightness
///   shape     = best normalised correlation with templates laid on each frame's centroid
///   motion    = word of the spec that allows the direction nearest to the velocity, which is the slope of a
///               straight-line fit of the centroids; still below a limit
///   speed     = class of its length: limits half-way between neighbouring speeds
/// Thread: any; immutable after construction.
class ShapeRules {
 public:
  /// `spec` is valid (ToyShapesSpec::validate) and is copied.
  explicit ShapeRules(const data::ToyShapesSpec& spec, const ShapeRuleOptions& options = {});

  /// `video`: [3, frames, size, size] in [-1, 1], any element type. Throws kInternal for another shape.
  ShapeReading read(const at::Tensor& video) const;
  /// `videos`: [N, 3, frames, size, size]. Throws as read.
  std::vector<ShapeReading> read_all(const at::Tensor& videos) const;

  /// A video that does not show exactly one object in each frame is wrong in every part.
  ShapeVerdict judge(const ShapeReading& reading, const data::ShapeLabel& label) const;

  /// Features of a reading, K shapes + 9: K shape correlations; mean red, green, blue; x0, y0; vx, vy;
  /// residual; mass. Returns [N, K + 9] float64; N >= 1. No feature knows the caption, so distances in this
  /// space see what is shown, not whether it was asked for.
  at::Tensor features(std::span<const ShapeReading> readings) const;
  /// Smallest scale of each of the K + 9 features (fit_feature_scale): 0.1 of correlation, 0.1 of colour, 1
  /// pixel of place, 0.1 px/frame, 0.2 px of residual, a tenth of the mass of a disc.
  std::vector<double> smallest_scales() const;
  /// How much each feature counts in distances, after scaling: the path (x0, y0, vx, vy) 3, the others 1. Nine
  /// of the features say how the object looks; with equal weights they hide a set of slow or misplaced paths.
  std::vector<double> feature_weights() const;

  const data::ToyShapesSpec& spec() const { return spec_; }

 private:
  bool is_one_object(const FrameMass& frame) const;
  void read_shape(std::span<const FrameMass> frames, ShapeReading& reading) const;
  void read_colour(std::span<const FrameMass> frames, ShapeReading& reading) const;
  void read_motion(std::span<const FrameMass> frames, ShapeReading& reading) const;
  int64_t moving_word(double vx, double vy) const;
  int64_t speed_class(double speed) const;

  data::ToyShapesSpec spec_;
  ShapeRuleOptions options_;
  ShapeTemplates templates_;
  double slowest_motion_;                     // pixels per frame; below, the object stands still
  int64_t smallest_object_, largest_object_;  // pixels above object_threshold
};

}  // namespace tmd::evaluation
