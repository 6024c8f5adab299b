#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "data/toy_shapes.h"
#include "evaluation/bootstrap.h"
#include "evaluation/feature_scale.h"
#include "evaluation/frechet.h"
#include "evaluation/metric.h"
#include "evaluation/shape_rules.h"

namespace tmd::evaluation {

/// How good a set of videos of moving shapes is. No single number sees every fault, so read them together:
/// accuracies miss lost variety and trembling, distances of distributions miss wrong prompts.
/// Shares are 0 to 1. "Real" is a set of real videos with the same captions.
struct ShapeMetrics {
  int64_t samples = 0;
  double one_object = 0;                                ///< share with exactly one object in each frame
  double shape = 0, colour = 0, motion = 0, speed = 0;  ///< share that obeys this part of the caption
  Interval joint;                                       ///< share that obeys all parts, 95 % bootstrap
  double frechet = 0;                                   ///< of scaled rule features, to the real set
  double frechet_floor = 0;                             ///< the same of a second real set
  double coverage = 0, precision = 0;                   ///< k = 5 neighbours of scaled rule features
  double position_entropy = 0;                          ///< nats
  double position_entropy_ratio = 0;                    ///< to real; below 1: few places, above 1: too many
  std::optional<double> prompt_entropy_ratio;           ///< the same inside prompts with 4 samples or more
  /// Of videos with one object in each frame, which alone have a path: mean rms distance from a straight one,
  /// pixels; fitted over captioned speed, mean of captions that move.
  std::optional<double> residual, speed_ratio;
  double motion_energy_ratio = 0;                         ///< mean squared change between frames, to real
  double pixel_sliced_w1 = 0, pixel_sliced_w1_floor = 0;  ///< brightness of 4 x 4 pooled pixels
  double path_sliced_w1 = 0, path_sliced_w1_floor = 0;    ///< (x0, y0, displacement over the clip), pixels
  /// Mean distance of scaled rule features inside prompts with 4 samples or more, to real.
  std::optional<double> prompt_diversity_ratio;
  std::optional<double> saturation_ratio, contrast_ratio;  ///< to real (picture_statistics)
  /// Distance of the scaled rule features of a sample to those of the teacher's from the same noise, over
  /// the mean distance of two samples of the teacher: 0 is the same sample.
  std::optional<double> teacher_distance;
  std::optional<double> motion_energy_to_teacher;  ///< mean squared change between frames

  /// 1 where a sample obeys its whole caption, in the order of the samples: for paired differences of two
  /// rows.
  std::vector<double> joint_hits;  // [samples]
  /// What joint, its parts, one_object, precision, residual and the ratios are means of.
  MetricValues values;
};

/// Measures sets of videos that were made from one list of captions against real videos with the same
/// captions. Thread: one at a time.
class ShapeEvaluation {
 public:
  /// Renders two real sets, the reference and the one of the floors, from `seed`, which should not be that of
  /// the training set. `labels`: one per sample, more than 5, each of the spec. Throws kConfig for a bad
  /// spec, kInternal for too few labels.
  ShapeEvaluation(const data::ToyShapesSpec& spec, std::vector<data::ShapeLabel> labels, uint64_t seed);

  /// `videos`: [labels, 3, frames, size, size] in [-1, 1], sample i made from caption i. Throws kInternal for
  /// another shape, kDiverged for values that are not finite. `teacher`: its videos from the same noise;
  /// undefined for the teacher itself.
  ShapeMetrics measure(const at::Tensor& videos, const at::Tensor& teacher = {}) const;

  /// The row of the second real set: what a perfect generator would get.
  const ShapeMetrics& real() const { return real_; }
  const ShapeRules& rules() const { return rules_; }

 private:
  // What is kept of a set of videos.
  struct Summary {
    std::vector<ShapeReading> readings;
    at::Tensor pooled;  // [N, 3 * frames * (size / 4)^2] float64, brightness 0 to 1
    double motion_energy = 0;
    std::vector<double> motion_energies, saturation, contrast;  // [N]
  };
  Summary summarise(const at::Tensor& videos) const;
  Summary summarise_real(uint64_t seed, int64_t first) const;
  ShapeMetrics compare(const Summary& set) const;
  void count_hits(const Summary& set, ShapeMetrics& metrics) const;
  void compare_distributions(const Summary& set, ShapeMetrics& metrics) const;
  void compare_motion(const Summary& set, ShapeMetrics& metrics) const;
  void compare_ratios(const Summary& set, ShapeMetrics& metrics) const;
  void compare_with_teacher(const Summary& set, const Summary& teacher, ShapeMetrics& metrics) const;

  std::vector<data::ShapeLabel> labels_;
  ShapeRules rules_;
  uint64_t seed_;
  Summary reference_;
  FeatureScale scale_;
  at::Tensor reference_features_;  // [N, features] float64, scaled
  GaussianFit reference_fit_;
  std::vector<int64_t> prompts_;  // number of each label's caption, in order of appearance
  ShapeMetrics real_;
};

}  // namespace tmd::evaluation
