#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json_fwd.hpp>

#include "data/toy_mixture.h"
#include "evaluation/metric.h"

namespace tmd::evaluation {

/// How good samples of the 2-D mixture are. A floor is the same measure of a second real set of the same
/// size.
struct MixtureMetrics {
  int64_t samples = 0;
  double sliced_w2 = 0, sliced_w2_floor = 0;  ///< 128 directions, unit of the unscaled plane
  int64_t modes_covered = 0;  ///< modes that hold more than 20 % of their due share; of data::kToyModes
  double mode_tv = 0,
         mode_tv_floor = 0;         ///< total variation of the mode weights: where reverse KL loses, 0 to 1
  double junk = 0, junk_floor = 0;  ///< share further than 4 standard deviations from every mode
  double diversity_ratio = 0;       ///< mean distance of two points (of the first 1024), to real
  /// Distance of a point to the teacher's from the same noise, over the mean distance of two points of the
  /// teacher: 0 is the same point.
  std::optional<double> teacher_distance = {};
  MetricValues values = {};  ///< junk, teacher_distance
};

/// `points`: [N, 2] unscaled, or [N, 2, 1, 1, 1]; compared with N real points of `seed`, which should not be
/// that of the training set; the floors take the N points after them. A point belongs to its nearest mode;
/// junk covers none. `teacher`: its points from the same noise; undefined for the teacher itself. Throws
/// kInternal for another shape or fewer than 2 points, kDiverged for values that are not finite.
MixtureMetrics measure_mixture(const at::Tensor& points, const data::ToyMixtureSpec& spec, uint64_t seed,
                               const at::Tensor& teacher = {});

/// The keys that two rows can be compared by.
const std::vector<Metric>& mixture_metric_list();
/// One key per member but values, and "modes", their number.
nlohmann::json to_json(const MixtureMetrics& metrics);
/// Column titles and one row of cells of the printed table, equally many.
std::vector<std::string> mixture_metric_headings();
std::vector<std::string> mixture_metric_cells(const MixtureMetrics& metrics);

}  // namespace tmd::evaluation
