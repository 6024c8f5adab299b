#include "evaluation/shape_metrics.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

#include "base/error.h"
#include "evaluation/coverage.h"
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

template <class Value>
double mean_over(std::span<const ShapeReading> readings, Value value) {
  double sum = 0;
  for (size_t i = 0; i < readings.size(); ++i) sum += value(i);
  return sum / static_cast<double>(readings.size());
}

}  // namespace

ShapeEvaluation::ShapeEvaluation(const data::ToyShapesSpec& spec, std::vector<data::ShapeLabel> labels,
                                 uint64_t seed)
    : labels_(std::move(labels)), rules_((spec.validate(), spec)), seed_(seed) {
  ensure(labels_.size() > 5, "neighbour statistics need more than 5 samples");
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

ShapeMetrics ShapeEvaluation::measure(const at::Tensor& videos) const {
  ensure(videos.dim() == 5 && videos.size(0) == static_cast<int64_t>(labels_.size()),
         "one video [3, frames, size, size] for each caption");
  point_set(videos, "sample videos");
  ShapeMetrics metrics = compare(summarise(videos));
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
    set.motion_energy += brightness.diff(1, 2).square().sum().item<double>();
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
  return metrics;
}

void ShapeEvaluation::count_hits(const Summary& set, ShapeMetrics& metrics) const {
  std::vector<ShapeVerdict> verdicts;
  for (size_t i = 0; i < set.readings.size(); ++i) {
    verdicts.push_back(rules_.judge(set.readings[i], labels_[i]));
    metrics.joint_hits.push_back(verdicts.back().joint() ? 1 : 0);
  }
  const auto share = [&](auto part) {
    return static_cast<double>(std::ranges::count_if(verdicts, part)) / static_cast<double>(verdicts.size());
  };
  metrics.shape = share([](const ShapeVerdict& v) { return v.shape; });
  metrics.colour = share([](const ShapeVerdict& v) { return v.colour; });
  metrics.motion = share([](const ShapeVerdict& v) { return v.motion; });
  metrics.speed = share([](const ShapeVerdict& v) { return v.speed; });
  metrics.joint = bootstrap_mean(metrics.joint_hits, {.seed = seed_});
  metrics.one_object =
      mean_over(set.readings, [&](size_t i) { return set.readings[i].is_one_object ? 1 : 0; });
}

void ShapeEvaluation::compare_distributions(const Summary& set, ShapeMetrics& metrics) const {
  const at::Tensor features = scale_.apply(rules_.features(set.readings));
  metrics.frechet = frechet_distance(fit_gaussian(features), reference_fit_);
  const NeighbourShares shares = neighbour_shares(reference_features_, features);
  metrics.coverage = shares.coverage;
  metrics.precision = shares.precision;
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
  metrics.residual = mean_over(set.readings, [&](size_t i) { return set.readings[i].residual; });
  const data::ToyShapesSpec& spec = rules_.spec();
  double ratios = 0;
  int64_t moving = 0;
  for (size_t i = 0; i < labels_.size(); ++i) {
    if (spec.motions[labels_[i].motion] == data::ToyMotion::kStill) continue;
    ratios += std::hypot(set.readings[i].vx, set.readings[i].vy) / spec.speeds[labels_[i].speed];
    ++moving;
  }
  if (moving > 0) metrics.speed_ratio = ratios / static_cast<double>(moving);
  metrics.motion_energy_ratio = set.motion_energy / reference_.motion_energy;
}

}  // namespace tmd::evaluation
