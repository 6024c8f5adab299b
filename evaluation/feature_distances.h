#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::evaluation {

// Euclidean distances between rows of features [N, D] on a common scale (feature_scale.h). All throw
// kInternal when D differs; see point_set for bad values.

/// Mean distance between two different rows, N >= 2 (kInternal otherwise); of the first 1024 rows.
double mean_pairwise_distance(const at::Tensor& points);

/// How much the samples of one prompt differ: mean_pairwise_distance inside every prompt with at least
/// `at_least` rows, by prompt number. `prompts`: the number of each row's prompt. It falls when every noise
/// leads to the same video of a prompt, also where all prompts together look varied.
std::vector<double> prompt_diversity(const at::Tensor& points, std::span<const int64_t> prompts,
                                     int64_t at_least = 4);

/// Distance of row i of `a` to row i of `b`: how far two networks lead the same noise apart. Throws
/// kInternal when N differs.
std::vector<double> paired_distances(const at::Tensor& a, const at::Tensor& b);

/// Distance of each row to the nearest row of `others`.
std::vector<double> nearest_distances(const at::Tensor& points, const at::Tensor& others);
/// Distance of each row to the nearest other one, N >= 2 (kInternal otherwise).
std::vector<double> nearest_other_distances(const at::Tensor& points);

}  // namespace tmd::evaluation
