#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "evaluation/bootstrap.h"
#include "evaluation/metric.h"

namespace tmd::orchestrator {

/// How one metric differs between two rows of evaluations (docs/formats/eval.md).
struct MetricChange {
  std::string key;
  evaluation::Better better = evaluation::Better::kNeither;
  double a = 0, b = 0;
  /// Of b - a, 95 % bootstrap over pairs of the same sample or prompt; where both rows have their values.
  std::optional<evaluation::Interval> difference;
  /// "better" or "worse": the interval excludes 0; for metrics that are best near one, that of |b - 1| less
  /// |a - 1|. "differs" for metrics that are neither good nor bad. "no difference", and "no interval" without
  /// one.
  std::string verdict;
};

/// Values of one key in a row, NaN for null; empty when there are none. Throws nlohmann::json::exception for
/// a row of another form.
std::vector<double> values_of(const nlohmann::json& row, const std::string& key);
/// 95 % bootstrap interval of the mean of those that are not NaN; nothing for fewer than 8.
std::optional<evaluation::Interval> interval_of(const std::vector<double>& values, uint64_t seed);

/// Every metric of the list `metrics` that both rows have. `seed`: of the bootstrap. Throws
/// nlohmann::json::exception for rows of another form, kData for a direction that nobody knows.
std::vector<MetricChange> compare_rows(const nlohmann::json& metrics, const nlohmann::json& row_a,
                                       const nlohmann::json& row_b, uint64_t seed);

/// Two files of `tmd eval` as text: each row of `a` beside the row of that name of `b`; students are held
/// against each other whatever their steps. Numbers that are held against the teacher of the first row are
/// left out, with a line that says why, when that one was sampled differently (`method`) or a row has them to
/// something else. Throws kData for files that are no evaluations of version 1, and
/// for those whose numbers cannot be compared, with the reason: another judge, number of samples, seed,
/// prompts or real data, or no rows in common; kIo.
std::string compare_evaluations(const std::filesystem::path& a, const std::filesystem::path& b);

}  // namespace tmd::orchestrator
