#include "evaluation/mixture_metrics.h"

#include <array>
#include <cmath>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "evaluation/feature_distances.h"
#include "evaluation/point_set.h"
#include "evaluation/sliced_wasserstein.h"

namespace tmd::evaluation {
namespace {

constexpr int64_t kDirections = 128;
constexpr double kJunkStds = 4, kCoveredShare = 0.2;

struct ModeCounts {
  std::array<int64_t, data::kToyModes> nearest = {};  // of all points
  std::array<int64_t, data::kToyModes> inside = {};   // of those within kJunkStds
  int64_t junk = 0;
  std::vector<double> is_junk;  // of each point, 0 or 1
};

ModeCounts count_modes(const at::Tensor& points) {
  const auto centres = data::toy_mixture_centres();
  ModeCounts counts;
  const double* point = points.const_data_ptr<double>();
  for (int64_t i = 0; i < points.size(0); ++i, point += 2) {
    size_t nearest = 0;
    double distance = INFINITY;
    for (size_t mode = 0; mode < centres.size(); ++mode) {
      const double d = std::hypot(point[0] - centres[mode][0], point[1] - centres[mode][1]);
      if (d >= distance) continue;
      distance = d;
      nearest = mode;
    }
    ++counts.nearest[nearest];
    const bool is_junk = distance > kJunkStds * data::kToyModeStd;
    ++(is_junk ? counts.junk : counts.inside[nearest]);
    counts.is_junk.push_back(is_junk ? 1 : 0);
  }
  return counts;
}

at::Tensor real_points(const data::ToyMixtureSpec& spec, uint64_t seed, int64_t first, int64_t count) {
  return point_set(data::toy_mixture_latents(spec, seed, first, count), "real points") *
         data::kToyMixtureScale;
}

double total_variation(const ModeCounts& counts, const data::ToyMixtureSpec& spec, int64_t samples) {
  const auto due = data::toy_mixture_weights(spec);
  double sum = 0;
  for (size_t mode = 0; mode < due.size(); ++mode)
    sum += std::abs(static_cast<double>(counts.nearest[mode]) / static_cast<double>(samples) - due[mode]);
  return sum / 2;
}

}  // namespace

MixtureMetrics measure_mixture(const at::Tensor& points, const data::ToyMixtureSpec& spec, uint64_t seed,
                               const at::Tensor& teacher) {
  const at::Tensor samples = point_set(points, "points of the mixture");
  ensure(samples.size(1) == 2, "points of the mixture have two coordinates");
  const int64_t count = samples.size(0);
  const at::Tensor real = real_points(spec, seed, 0, count), second = real_points(spec, seed, count, count);
  const ModeCounts seen = count_modes(samples), seen_floor = count_modes(second);
  MixtureMetrics metrics;
  metrics.samples = count;
  metrics.sliced_w2 = sliced_wasserstein(samples, real, kDirections, seed).w2;
  metrics.sliced_w2_floor = sliced_wasserstein(second, real, kDirections, seed).w2;
  const auto due = data::toy_mixture_weights(spec);
  for (size_t mode = 0; mode < due.size(); ++mode) {
    const double share = static_cast<double>(seen.inside[mode]) / static_cast<double>(count);
    if (share > kCoveredShare * due[mode]) ++metrics.modes_covered;
  }
  metrics.mode_tv = total_variation(seen, spec, count);
  metrics.mode_tv_floor = total_variation(seen_floor, spec, count);
  metrics.junk = static_cast<double>(seen.junk) / static_cast<double>(count);
  metrics.junk_floor = static_cast<double>(seen_floor.junk) / static_cast<double>(count);
  metrics.values["junk"] = seen.is_junk;
  metrics.diversity_ratio = mean_pairwise_distance(samples) / mean_pairwise_distance(real);
  if (teacher.defined()) {
    const at::Tensor theirs = point_set(teacher, "points of the teacher");
    set_ratio("teacher_distance", paired_distances(samples, theirs), {mean_pairwise_distance(theirs)},
              metrics.teacher_distance, metrics.values);
  }
  return metrics;
}

nlohmann::json to_json(const MixtureMetrics& metrics) {
  nlohmann::json json = {{"samples", metrics.samples},
                         {"sliced_w2", metrics.sliced_w2},
                         {"sliced_w2_floor", metrics.sliced_w2_floor},
                         {"modes_covered", metrics.modes_covered},
                         {"modes", data::kToyModes},
                         {"mode_tv", metrics.mode_tv},
                         {"mode_tv_floor", metrics.mode_tv_floor},
                         {"junk", metrics.junk},
                         {"junk_floor", metrics.junk_floor},
                         {"diversity_ratio", metrics.diversity_ratio},
                         {"teacher_distance", nullptr}};
  if (metrics.teacher_distance) json["teacher_distance"] = *metrics.teacher_distance;
  return json;
}

const std::vector<Metric>& mixture_metric_list() {
  static const std::vector<Metric> list = {{"sliced_w2", Better::kLess},
                                           {"modes_covered", Better::kMore},
                                           {"mode_tv", Better::kLess},
                                           {"junk", Better::kLess},
                                           {"diversity_ratio", Better::kNearOne},
                                           {"teacher_distance", Better::kNeither}};
  return list;
}

std::vector<std::string> mixture_metric_headings() {
  return {"sliced W2", "(floor)", "modes", "mode TV", "(floor)", "junk %"};
}

std::vector<std::string> mixture_metric_cells(const MixtureMetrics& m) {
  return {fmt::format("{:.3f}", m.sliced_w2),
          fmt::format("{:.3f}", m.sliced_w2_floor),
          fmt::format("{}/{}", m.modes_covered, data::kToyModes),
          fmt::format("{:.3f}", m.mode_tv),
          fmt::format("{:.3f}", m.mode_tv_floor),
          fmt::format("{:.2f}", 100 * m.junk)};
}

}  // namespace tmd::evaluation
