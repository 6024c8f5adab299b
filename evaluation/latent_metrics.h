#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json_fwd.hpp>

namespace tmd::evaluation {

/// How near samples are to the data of any data set, in latent space and without a trained network.
struct LatentMetrics {
  int64_t samples = 0;
  /// Over 128 directions; unit of normalised latents. Floors: a second real set instead of the samples.
  double sliced_w1 = 0, sliced_w1_floor = 0, sliced_w2 = 0, sliced_w2_floor = 0;
  /// Mean square of x[t + 1] - x[t], samples over data: below 1 motion is lost. None for one latent frame and
  /// for data that stand still.
  std::optional<double> temporal_energy_ratio;
  std::vector<double> mean_drift;  ///< per channel: (mean of samples - mean of data) / std of data
  std::vector<double> std_ratio;   ///< per channel: std of samples / std of data

  double largest_mean_drift() const;  ///< absolute
  double largest_std_drift() const;   ///< of |std_ratio - 1|
};

/// All [., C, T, H, W], normalised latents. `samples` and the two disjoint parts of the data should be of
/// equal count, since the distance of finite sets depends on it. `seed`: of the directions. Throws kInternal
/// when C, T, H or W differ or a tensor has not five dimensions, kDiverged for values that are not finite.
LatentMetrics measure_latents(const at::Tensor& samples, const at::Tensor& real,
                              const at::Tensor& second_real, uint64_t seed);

/// One key per member; null for a ratio that there is not.
nlohmann::json to_json(const LatentMetrics& metrics);
/// Column titles and one row of cells of the printed table, equally many.
std::vector<std::string> latent_metric_headings();
std::vector<std::string> latent_metric_cells(const LatentMetrics& metrics);

}  // namespace tmd::evaluation
