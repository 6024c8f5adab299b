#include "evaluation/latent_evaluation.h"

#include <utility>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "evaluation/coverage.h"
#include "evaluation/feature_distances.h"
#include "evaluation/latent_features.h"
#include "evaluation/point_set.h"

namespace tmd::evaluation {
namespace {

void put(nlohmann::json& json, const char* key, const std::optional<double>& value) {
  json[key] = nullptr;
  if (value) json[key] = *value;
}

}  // namespace

LatentEvaluation::LatentEvaluation(at::Tensor real, at::Tensor second_real, std::vector<int64_t> prompts,
                                   uint64_t seed, Decode decode)
    : real_(std::move(real)),
      second_(std::move(second_real)),
      prompts_(std::move(prompts)),
      seed_(seed),
      decode_(std::move(decode)) {
  ensure(real_.dim() == 5 && real_.sizes() == second_.sizes(), "both parts of the data have one shape");
  ensure(real_.size(0) > kLatentFeatures, "a Fréchet distance needs more samples than features");
  ensure(static_cast<int64_t>(prompts_.size()) >= real_.size(0), "each row of the second set has a prompt");
  scale_ = fit_feature_scale(latent_features(real_), latent_feature_smallest_scales());
  reference_ = summarise(real_);
  reference_fit_ = fit_gaussian(reference_.features);
  Summary second = summarise(second_);
  // `prompts_` are those of the second set.
  reference_.diversity = std::exchange(second.diversity, {});
  if (static_cast<int64_t>(prompts_.size()) > real_.size(0)) reference_.diversity.clear();
  data_features_ = at::cat({reference_.features, second.features});
  const std::vector<double> gaps = nearest_other_distances(data_features_);
  data_gap_ = mean_of(gaps);
  floor_ = compare(second_, second);
  floor_.frechet_floor = floor_.frechet;
  // The rows of the second set are among the data: their distance to the nearest row would be 0.
  set_ratio("nearest_ratio", {gaps.begin() + second_.size(0), gaps.end()}, {data_gap_}, floor_.nearest_ratio,
            floor_.values);
}

LatentScore LatentEvaluation::measure(const at::Tensor& samples, const at::Tensor& teacher) const {
  ensure(samples.dim() == 5 && samples.size(0) == static_cast<int64_t>(prompts_.size()),
         "one sample [C, T, H, W] for each prompt");
  const Summary set = summarise(samples);
  LatentScore score = compare(samples.narrow(0, 0, real_.size(0)), set);
  if (teacher.defined()) compare_with_teacher(set, summarise(teacher), score);
  return score;
}

LatentEvaluation::Summary LatentEvaluation::summarise(const at::Tensor& rows) const {
  ensure(rows.sizes().slice(1) == real_.sizes().slice(1), "samples and data have the same latent shape");
  Summary set;
  set.features = scale_.apply(latent_features(rows));
  set.diversity =
      prompt_diversity(set.features, std::span(prompts_).first(static_cast<size_t>(rows.size(0))));
  for (int64_t i = 0; i < real_.size(0); ++i) {
    if (rows.size(2) > 1) {
      const at::Tensor change = rows[i].to(at::TensorOptions(at::kCPU).dtype(at::kDouble)).diff(1, 1);
      set.energy.push_back(change.square().mean().item<double>());
    }
    if (!decode_) continue;
    const PictureStatistics colours = picture_statistics(decode_(rows[i]));
    set.saturation.push_back(colours.saturation);
    set.contrast.push_back(colours.contrast);
  }
  return set;
}

LatentScore LatentEvaluation::compare(const at::Tensor& rows, const Summary& set) const {
  LatentScore score;
  score.latents = measure_latents(rows, real_, second_, seed_);
  const at::Tensor features = set.features.narrow(0, 0, rows.size(0));
  score.frechet = frechet_distance(fit_gaussian(features), reference_fit_);
  score.frechet_floor = floor_.frechet;
  NeighbourShares shares = neighbour_shares(reference_.features, features);
  score.coverage = shares.coverage;
  score.precision = shares.precision;
  score.values["precision"] = std::move(shares.inside);
  set_ratio("nearest_ratio", nearest_distances(features, data_features_), {data_gap_}, score.nearest_ratio,
            score.values);
  std::optional<double> energy;  // stands in `latents` too
  set_ratio("temporal_energy_ratio", set.energy, reference_.energy, energy, score.values);
  set_ratio("saturation_ratio", set.saturation, reference_.saturation, score.saturation_ratio, score.values);
  set_ratio("contrast_ratio", set.contrast, reference_.contrast, score.contrast_ratio, score.values);
  if (!set.diversity.empty()) {
    score.values["prompt_diversity"] = set.diversity;
    score.prompt_diversity = mean_of(set.diversity);
  }
  set_ratio("prompt_diversity_ratio", set.diversity, reference_.diversity, score.prompt_diversity_ratio,
            score.values);
  return score;
}

void LatentEvaluation::compare_with_teacher(const Summary& set, const Summary& teacher,
                                            LatentScore& score) const {
  const int64_t count = real_.size(0);
  const at::Tensor theirs = teacher.features.narrow(0, 0, count);
  set_ratio("teacher_distance", paired_distances(set.features.narrow(0, 0, count), theirs),
            {mean_pairwise_distance(theirs)}, score.teacher_distance, score.values);
  set_ratio("temporal_energy_to_teacher", set.energy, teacher.energy, score.temporal_energy_to_teacher,
            score.values);
  if (score.prompt_diversity_ratio) return;
  set_ratio("prompt_diversity_ratio", set.diversity, teacher.diversity, score.prompt_diversity_ratio,
            score.values);
  score.is_diversity_to_teacher = score.prompt_diversity_ratio.has_value();
}

nlohmann::json to_json(const LatentScore& score) {
  nlohmann::json json = to_json(score.latents);
  json.update({{"largest_mean_drift", score.latents.largest_mean_drift()},
               {"largest_std_drift", score.latents.largest_std_drift()},
               {"frechet", score.frechet},
               {"frechet_floor", score.frechet_floor},
               {"coverage", score.coverage},
               {"precision", score.precision}});
  put(json, "nearest_ratio", score.nearest_ratio);
  put(json, "prompt_diversity", score.prompt_diversity);
  put(json, "prompt_diversity_ratio", score.prompt_diversity_ratio);
  if (score.prompt_diversity_ratio)
    json["prompt_diversity_ratio_to"] = score.is_diversity_to_teacher ? "teacher" : "data";
  put(json, "saturation_ratio", score.saturation_ratio);
  put(json, "contrast_ratio", score.contrast_ratio);
  put(json, "teacher_distance", score.teacher_distance);
  put(json, "temporal_energy_to_teacher", score.temporal_energy_to_teacher);
  return json;
}

const std::vector<Metric>& latent_metric_list() {
  static const std::vector<Metric> list = {{"sliced_w1", Better::kLess},
                                           {"sliced_w2", Better::kLess},
                                           {"frechet", Better::kLess},
                                           {"coverage", Better::kMore},
                                           {"precision", Better::kMore},
                                           {"prompt_diversity", Better::kNeither},
                                           {"prompt_diversity_ratio", Better::kNearOne},
                                           {"temporal_energy_ratio", Better::kNearOne},
                                           {"temporal_energy_to_teacher", Better::kNearOne},
                                           {"saturation_ratio", Better::kNearOne},
                                           {"contrast_ratio", Better::kNearOne},
                                           {"largest_mean_drift", Better::kLess},
                                           {"largest_std_drift", Better::kLess},
                                           {"nearest_ratio", Better::kNearOne},
                                           {"teacher_distance", Better::kNeither}};
  return list;
}

}  // namespace tmd::evaluation
