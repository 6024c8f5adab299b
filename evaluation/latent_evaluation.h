#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json_fwd.hpp>

#include "evaluation/feature_scale.h"
#include "evaluation/frechet.h"
#include "evaluation/latent_metrics.h"
#include "evaluation/metric.h"
#include "evaluation/picture_statistics.h"

namespace tmd::evaluation {

/// Metric vector of samples of any data set. Features are those of latent_features, scaled by the data.
/// Ratios are of means over samples; there is none where the divisor is 0 or what it needs is absent.
struct LatentScore {
  LatentMetrics latents;
  double frechet = 0, frechet_floor = 0;  ///< of features; the floor is a second real set
  double coverage = 0, precision = 0;     ///< k = 5 neighbours of features
  /// Memorisation: distance to the nearest data row, over that of a data row to the nearest other one. Far
  /// below 1: copies; above 1: off the data.
  std::optional<double> nearest_ratio;
  /// Mean distance between the features of samples of one prompt (prompt_diversity), and its ratio to the
  /// same of the data where they repeat their prompts, else of the teacher's samples.
  std::optional<double> prompt_diversity, prompt_diversity_ratio;
  bool is_diversity_to_teacher = false;
  std::optional<double> saturation_ratio, contrast_ratio;  ///< to the data (picture_statistics)
  /// Distance of the features of a sample to those of the teacher's from the same noise, over the mean
  /// distance of two samples of the teacher: 0 is the same sample, 1 an unrelated one.
  std::optional<double> teacher_distance;
  std::optional<double> temporal_energy_to_teacher;  ///< as LatentMetrics::temporal_energy_ratio

  MetricValues values;  ///< precision, nearest_ratio, temporal_energy_ratio and the optional ones
};

/// Measures sets of samples against data of any kind. Thread: one at a time.
class LatentEvaluation {
 public:
  /// Normalised latent [C, T, H, W] -> video [3, F, H', W'] in [-1, 1].
  using Decode = std::function<at::Tensor(const at::Tensor& latent)>;

  /// `real`, `second_real`: disjoint parts of the data, [N, C, T, H, W] each. Samples are held against
  /// `real`; `second_real`, whose prompts they have, shows what a perfect generator would score: the floor.
  /// `prompts`: number of the prompt of each row that will be measured; the first N are those of
  /// `second_real`, further ones are samples for the diversity alone; where there are some, diversity is held
  /// against the teacher's. `decode`: empty where nothing decodes the data. Throws kInternal for shapes that
  /// disagree or N <= kLatentFeatures, which a Fréchet distance cannot do with; kDiverged for values that are
  /// not finite.
  LatentEvaluation(at::Tensor real, at::Tensor second_real, std::vector<int64_t> prompts, uint64_t seed,
                   Decode decode = {});

  /// `samples` and `teacher`: [rows of prompts, C, T, H, W]; `teacher`, from the same noise, is undefined for
  /// the teacher itself. Throws as the constructor.
  LatentScore measure(const at::Tensor& samples, const at::Tensor& teacher = {}) const;

  /// What the second real set scores; without diversity.
  const LatentScore& floor() const { return floor_; }

 private:
  struct Summary {
    at::Tensor features;                       // [rows, 32] scaled
    std::vector<double> energy;                // [N] temporal; empty for one frame
    std::vector<double> saturation, contrast;  // [N]; empty where nothing decodes
    std::vector<double> diversity;             // by prompt
  };
  Summary summarise(const at::Tensor& rows) const;
  LatentScore compare(const at::Tensor& rows, const Summary& set) const;
  void compare_with_teacher(const Summary& set, const Summary& teacher, LatentScore& score) const;

  at::Tensor real_, second_;
  std::vector<int64_t> prompts_;
  uint64_t seed_;
  Decode decode_;
  FeatureScale scale_;
  Summary reference_;
  GaussianFit reference_fit_;
  at::Tensor data_features_;  // [2 N, 32] scaled
  double data_gap_ = 0;       // mean distance of a data row to the nearest other one
  LatentScore floor_;
};

/// One key per number, null for one that there is not; those of LatentMetrics stand beside the others.
nlohmann::json to_json(const LatentScore& score);
/// The keys that two rows can be compared by.
const std::vector<Metric>& latent_metric_list();

}  // namespace tmd::evaluation
