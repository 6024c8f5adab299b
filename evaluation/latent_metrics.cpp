#include "evaluation/latent_metrics.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "evaluation/point_set.h"
#include "evaluation/sliced_wasserstein.h"

namespace tmd::evaluation {
namespace {

constexpr int64_t kDirections = 128;

// Latents as [N, C, T, H, W] float64 on the host.
at::Tensor latents_of(const at::Tensor& latents, std::string_view what) {
  ensure(latents.dim() == 5, "latents are [N, C, T, H, W]");
  return point_set(latents, what).view(latents.sizes());
}

at::Tensor channel_mean(const at::Tensor& latents) { return latents.mean({0, 2, 3, 4}); }  // [C]

at::Tensor channel_std(const at::Tensor& latents) {
  const at::Tensor mean = channel_mean(latents).view({1, -1, 1, 1, 1});
  return channel_mean((latents - mean).square()).sqrt();
}

double temporal_energy(const at::Tensor& latents) {
  return latents.diff(1, 2).square().mean().item<double>();
}

std::vector<double> to_vector(const at::Tensor& values) {
  const double* begin = values.const_data_ptr<double>();
  return {begin, begin + values.numel()};
}

double largest(const std::vector<double>& values, double centre) {
  double out = 0;
  for (const double value : values) out = std::max(out, std::abs(value - centre));
  return out;
}

}  // namespace

double LatentMetrics::largest_mean_drift() const { return largest(mean_drift, 0); }
double LatentMetrics::largest_std_drift() const { return largest(std_ratio, 1); }

LatentMetrics measure_latents(const at::Tensor& samples, const at::Tensor& real,
                              const at::Tensor& second_real, uint64_t seed) {
  const at::Tensor x = latents_of(samples, "samples"), data = latents_of(real, "data"),
                   second = latents_of(second_real, "second part of the data");
  ensure(x.sizes().slice(1) == data.sizes().slice(1) && second.sizes().slice(1) == data.sizes().slice(1),
         "samples and data have the same latent shape");
  LatentMetrics metrics;
  metrics.samples = x.size(0);
  const SlicedDistance distance = sliced_wasserstein(x, data, kDirections, seed);
  const SlicedDistance floor = sliced_wasserstein(second, data, kDirections, seed);
  metrics.sliced_w1 = distance.w1;
  metrics.sliced_w2 = distance.w2;
  metrics.sliced_w1_floor = floor.w1;
  metrics.sliced_w2_floor = floor.w2;
  const double energy = x.size(2) > 1 ? temporal_energy(data) : 0;
  if (energy > 0) metrics.temporal_energy_ratio = temporal_energy(x) / energy;
  // A channel without variation in the data would divide by zero.
  const at::Tensor scale = channel_std(data).clamp_min(1e-12);
  metrics.mean_drift = to_vector((channel_mean(x) - channel_mean(data)) / scale);
  metrics.std_ratio = to_vector(channel_std(x) / scale);
  return metrics;
}

nlohmann::json to_json(const LatentMetrics& metrics) {
  nlohmann::json json = {{"samples", metrics.samples},
                         {"sliced_w1", metrics.sliced_w1},
                         {"sliced_w1_floor", metrics.sliced_w1_floor},
                         {"sliced_w2", metrics.sliced_w2},
                         {"sliced_w2_floor", metrics.sliced_w2_floor},
                         {"temporal_energy_ratio", nullptr},
                         {"mean_drift", metrics.mean_drift},
                         {"std_ratio", metrics.std_ratio}};
  if (metrics.temporal_energy_ratio) json["temporal_energy_ratio"] = *metrics.temporal_energy_ratio;
  return json;
}

std::vector<std::string> latent_metric_headings() {
  return {"sliced W1", "(floor)", "sliced W2", "(floor)", "temporal energy", "mean drift", "std drift"};
}

std::vector<std::string> latent_metric_cells(const LatentMetrics& m) {
  return {fmt::format("{:.4f}", m.sliced_w1),
          fmt::format("{:.4f}", m.sliced_w1_floor),
          fmt::format("{:.4f}", m.sliced_w2),
          fmt::format("{:.4f}", m.sliced_w2_floor),
          m.temporal_energy_ratio ? fmt::format("{:.3f}", *m.temporal_energy_ratio) : "-",
          fmt::format("{:.3f}", m.largest_mean_drift()),
          fmt::format("{:.3f}", m.largest_std_drift())};
}

}  // namespace tmd::evaluation
