#include "evaluation/shape_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/ATen.h>

#include "base/error.h"
#include "evaluation/coverage.h"
#include "evaluation/feature_distances.h"
#include "evaluation/picture_statistics.h"
#include "evaluation/point_set.h"
#include "evaluation/position_entropy.h"
#include "evaluation/sliced_wasserstein.h"

namespace tmd::evaluation {
namespace {

constexpr int64_t kDirections = 128, kPool = 4;
constexpr int64_t kChunk = 64;  // videos that are converted or rendered at a time

// [N, 4]: place in frame 0 and displacement over the clip, pixels.
at::Tensor paths(std::span<const ShapeReading> readings, int64_t frames) {
  const auto steps = static_cast<double>(frames - 1);
  std::vector<double> rows;
  for (const ShapeReading& r : readings) rows.insert(rows.end(), {r.x0, r.y0, r.vx * steps, r.vy * steps});
  return at::tensor(rows, at::kDouble).view({static_cast<int64_t>(readings.size()), 4});
}

// The number of each caption, in order of appearance.
std::vector<int64_t> prompt_numbers(std::span<const data::ShapeLabel> labels) {
  std::vector<data::ShapeLabel> seen;
  std::vector<int64_t> numbers;
  for (const data::ShapeLabel& label : labels) {
    const auto found = std::ranges::find(seen, label);
    numbers.push_back(std::distance(seen.begin(), found));
    if (found == seen.end()) seen.push_back(label);
  }
  return numbers;
}

}  // namespace

ShapeEvaluation::ShapeEvaluation(const data::ToyShapesSpec& spec, std::vector<data::ShapeLabel> labels,
                                 uint64_t seed)
    : labels_(std::move(labels)), rules_((spec.validate(), spec)), seed_(seed) {
  ensure(labels_.size() > 5, "neighbour statistics need more than 5 samples");
  prompts_ = prompt_numbers(labels_);
  const auto count = static_cast<int64_t>(labels_.size());
  reference_ = summarise_real(seed, 0);
  const at::Tensor features = rules_.features(reference_.readings);
  scale_ = fit_feature_scale(features, rules_.smallest_scales());
  scale_.scale /= at::tensor(rules_.feature_weights(), at::kDouble);
  reference_features_ = scale_.apply(features);
  reference_fit_ = fit_gaussian(reference_features_);
  real_ = compare(summarise_real(seed, count));
  real_.frechet_floor = real_.frechet;
  real_.pixel_sliced_w1_floor = real_.pixel_sliced_w1;
  real_.path_sliced_w1_floor = real_.path_sliced_w1;
}

ShapeMetrics ShapeEvaluation::measure(const at::Tensor& videos, const at::Tensor& teacher) const {
  ensure(videos.dim() == 5 && videos.size(0) == static_cast<int64_t>(labels_.size()),
         "one video [3, frames, size, size] for each caption");
  point_set(videos, "sample videos");
  const Summary set = summarise(videos);
  ShapeMetrics metrics = compare(set);
  if (teacher.defined()) compare_with_teacher(set, summarise(teacher), metrics);
  metrics.frechet_floor = real_.frechet;
  metrics.pixel_sliced_w1_floor = real_.pixel_sliced_w1;
  metrics.path_sliced_w1_floor = real_.path_sliced_w1;
  return metrics;
}

ShapeEvaluation::Summary ShapeEvaluation::summarise(const at::Tensor& videos) const {
  Summary set;
  std::vector<at::Tensor> pooled;
  for (int64_t begin = 0; begin < videos.size(0); begin += kChunk) {
    const at::Tensor chunk = videos.narrow(0, begin, std::min(kChunk, videos.size(0) - begin));
    const at::Tensor brightness =
        ((point_set(chunk, "sample videos") + 1) / 2).clamp(0, 1).view(chunk.sizes());
    for (ShapeReading& reading : rules_.read_all(chunk)) set.readings.push_back(std::move(reading));
    pooled.push_back(at::avg_pool2d(brightness.flatten(1, 2), {kPool, kPool}).flatten(1));
    const at::Tensor changes = brightness.diff(1, 2).square();
    set.motion_energy += changes.sum().item<double>();
    const at::Tensor energies = changes.flatten(1).sum(1);  // [n]
    for (int64_t i = 0; i < chunk.size(0); ++i) {
      set.motion_energies.push_back(energies[i].item<double>());
      const PictureStatistics colours = picture_statistics(chunk[i]);
      set.saturation.push_back(colours.saturation);
      set.contrast.push_back(colours.contrast);
    }
  }
  set.pooled = at::cat(pooled);
  return set;
}

ShapeEvaluation::Summary ShapeEvaluation::summarise_real(uint64_t seed, int64_t first) const {
  Summary set;
  std::vector<at::Tensor> pooled;
  const auto count = static_cast<int64_t>(labels_.size());
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    std::vector<at::Tensor> videos;
    for (int64_t i = begin; i < std::min(begin + kChunk, count); ++i)
      videos.push_back(render_toy_shape(rules_.spec(), labels_[i], data::toy_shapes_jitter(seed, first + i)));
    Summary chunk = summarise(at::stack(videos));
    std::ranges::move(chunk.readings, std::back_inserter(set.readings));
    pooled.push_back(chunk.pooled);
    set.motion_energy += chunk.motion_energy;
    std::ranges::copy(chunk.motion_energies, std::back_inserter(set.motion_energies));
    std::ranges::copy(chunk.saturation, std::back_inserter(set.saturation));
    std::ranges::copy(chunk.contrast, std::back_inserter(set.contrast));
  }
  set.pooled = at::cat(pooled);
  return set;
}

ShapeMetrics ShapeEvaluation::compare(const Summary& set) const {
  ShapeMetrics metrics;
  metrics.samples = static_cast<int64_t>(set.readings.size());
  count_hits(set, metrics);
  compare_distributions(set, metrics);
  compare_motion(set, metrics);
  compare_ratios(set, metrics);
  return metrics;
}

void ShapeEvaluation::count_hits(const Summary& set, ShapeMetrics& metrics) const {
  std::vector<ShapeVerdict> verdicts;
  for (size_t i = 0; i < set.readings.size(); ++i) {
    verdicts.push_back(rules_.judge(set.readings[i], labels_[i]));
    metrics.joint_hits.push_back(verdicts.back().joint() ? 1 : 0);
    metrics.values["one_object"].push_back(set.readings[i].is_one_object ? 1 : 0);
  }
  const auto share = [&](const char* key, auto part) {
    std::vector<double>& hits = metrics.values[key];
    for (const ShapeVerdict& verdict : verdicts) hits.push_back(part(verdict) ? 1 : 0);
    return mean_of(hits);
  };
  metrics.shape = share("shape", [](const ShapeVerdict& v) { return v.shape; });
  metrics.colour = share("colour", [](const ShapeVerdict& v) { return v.colour; });
  metrics.motion = share("motion", [](const ShapeVerdict& v) { return v.motion; });
  metrics.speed = share("speed", [](const ShapeVerdict& v) { return v.speed; });
  metrics.joint = bootstrap_mean(metrics.joint_hits, {.seed = seed_});
  metrics.values["joint"] = metrics.joint_hits;
  metrics.one_object = mean_of(metrics.values["one_object"]);
}

void ShapeEvaluation::compare_distributions(const Summary& set, ShapeMetrics& metrics) const {
  const at::Tensor features = scale_.apply(rules_.features(set.readings));
  metrics.frechet = frechet_distance(fit_gaussian(features), reference_fit_);
  const NeighbourShares shares = neighbour_shares(reference_features_, features);
  metrics.coverage = shares.coverage;
  metrics.precision = shares.precision;
  metrics.values["precision"] = shares.inside;
  metrics.pixel_sliced_w1 = sliced_wasserstein(set.pooled, reference_.pooled, kDirections, seed_).w1;
  const int64_t frames = rules_.spec().frames, size = rules_.spec().size;
  metrics.path_sliced_w1 =
      sliced_wasserstein(paths(set.readings, frames), paths(reference_.readings, frames), kDirections, seed_)
          .w1;
  metrics.position_entropy = position_entropy(set.readings, size);
  metrics.position_entropy_ratio = metrics.position_entropy / position_entropy(reference_.readings, size);
  const auto inside = prompt_position_entropy(set.readings, labels_, size);
  const auto inside_real = prompt_position_entropy(reference_.readings, labels_, size);
  if (inside && inside_real && *inside_real > 0) metrics.prompt_entropy_ratio = *inside / *inside_real;
}

void ShapeEvaluation::compare_motion(const Summary& set, ShapeMetrics& metrics) const {
  const data::ToyShapesSpec& spec = rules_.spec();
  const double none = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> residuals, ratios;
  for (size_t i = 0; i < labels_.size(); ++i) {
    const ShapeReading& reading = set.readings[i];
    const bool moves = spec.motions[labels_[i].motion] != data::ToyMotion::kStill;
    const double speed = std::hypot(reading.vx, reading.vy) / spec.speeds[labels_[i].speed];
    residuals.push_back(reading.is_one_object ? reading.residual : none);
    ratios.push_back(reading.is_one_object && moves ? speed : none);
  }
  const auto keep = [&](const char* key, std::vector<double> values, std::optional<double>& mean) {
    const double found = mean_of(values);
    if (std::isnan(found)) return;
    mean = found;
    metrics.values[key] = std::move(values);
  };
  keep("residual", std::move(residuals), metrics.residual);
  keep("speed_ratio", std::move(ratios), metrics.speed_ratio);
  metrics.motion_energy_ratio = set.motion_energy / reference_.motion_energy;
}

void ShapeEvaluation::compare_ratios(const Summary& set, ShapeMetrics& metrics) const {
  std::optional<double> energy;  // stands in motion_energy_ratio too
  set_ratio("motion_energy_ratio", set.motion_energies, reference_.motion_energies, energy, metrics.values);
  set_ratio("saturation_ratio", set.saturation, reference_.saturation, metrics.saturation_ratio,
            metrics.values);
  set_ratio("contrast_ratio", set.contrast, reference_.contrast, metrics.contrast_ratio, metrics.values);
  set_ratio("prompt_diversity_ratio", prompt_diversity(scale_.apply(rules_.features(set.readings)), prompts_),
            prompt_diversity(reference_features_, prompts_), metrics.prompt_diversity_ratio, metrics.values);
}

void ShapeEvaluation::compare_with_teacher(const Summary& set, const Summary& teacher,
                                           ShapeMetrics& metrics) const {
  const at::Tensor ours = scale_.apply(rules_.features(set.readings)),
                   theirs = scale_.apply(rules_.features(teacher.readings));
  set_ratio("teacher_distance", paired_distances(ours, theirs), {mean_pairwise_distance(theirs)},
            metrics.teacher_distance, metrics.values);
  set_ratio("motion_energy_to_teacher", set.motion_energies, teacher.motion_energies,
            metrics.motion_energy_to_teacher, metrics.values);
}

}  // namespace tmd::evaluation
