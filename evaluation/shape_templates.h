#pragma once

#include <cstdint>
#include <vector>

#include "data/toy_shapes.h"
#include "evaluation/frame_mass.h"

namespace tmd::evaluation {

/// Pictures of every shape of a toy, at three radii and on a grid of eighths of a pixel, to be laid over a
/// frame. Thread: any; immutable after construction.
class ShapeTemplates {
 public:
  /// `background` as in measure_frame: the templates are what an object of mean brightness leaves above it.
  /// `spec` is valid; nothing of it is kept.
  ShapeTemplates(const data::ToyShapesSpec& spec, double background);

  int64_t radii() const { return kRadii; }

  /// Correlation coefficient, over all pixels of the frame, of its mass with shape number `shape` of the spec
  /// at radius number `radius` (0 to radii() - 1, from radius_min to radius_max), both centroids in the same
  /// place. 0 for a frame without mass or contrast.
  double correlation(const FrameMass& frame, int64_t shape, int64_t radius) const;

  /// Pixels of `shape` at radius number `radius` above `threshold` (a brightness), at mean brightness.
  int64_t bright_pixels(int64_t shape, int64_t radius, double threshold) const;

 private:
  static constexpr int64_t kRadii = 3, kSteps = 8;

  // Template whose centroid lies at ((column + 1/2) / 8, (row + 1/2) / 8) inside its middle pixel.
  const double* picture(int64_t shape, int64_t radius, int64_t row, int64_t column) const;

  double background_;
  double brightness_;
  int64_t half_;                  // a template reaches from -half_ to +half_ pixels
  std::vector<double> pictures_;  // [shapes, kRadii, kSteps, kSteps, 2 half_ + 1, 2 half_ + 1]
};

}  // namespace tmd::evaluation
