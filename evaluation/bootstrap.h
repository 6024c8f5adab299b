#pragma once

#include <cstdint>
#include <functional>
#include <span>

namespace tmd::evaluation {

struct BootstrapOptions {
  int64_t resamples = 1000;
  double confidence = 0.95;  ///< share of resampled means inside the interval
  uint64_t seed = 0;
};

struct Interval {
  double estimate = 0;  ///< of the values themselves
  double low = 0, high = 0;

  /// A difference with such an interval counts as a win or a loss.
  bool excludes_zero() const { return low > 0 || high < 0; }
};

/// Percentile bootstrap interval of the mean (Efron and Tibshirani 1993, chapter 13): the values are drawn
/// with replacement `resamples` times (Purpose::kEvaluation), and the interval holds the middle `confidence`
/// of the means, or somewhat more where the values are few: as much as makes up for Student's t and for the
/// spread of a sample, which is too small by (n - 1) / n (Hesterberg 2015, section 3.3). Throws kInternal for
/// no values, no resamples or a confidence outside (0, 1).
Interval bootstrap_mean(std::span<const double> values, const BootstrapOptions& options = {});

/// Interval of mean(a - b), where a[i] and b[i] belong together (same prompt, same noise): pairs are drawn.
/// Throws kInternal when the counts differ.
Interval bootstrap_paired_difference(std::span<const double> a, std::span<const double> b,
                                     const BootstrapOptions& options = {});

/// Interval of statistic(mean of a, mean of b), for what is no mean of differences, such as which of two
/// ratios is nearer to one; pairs are drawn. Throws kInternal as the others.
Interval bootstrap_paired_statistic(std::span<const double> a, std::span<const double> b,
                                    const std::function<double(double a, double b)>& statistic,
                                    const BootstrapOptions& options = {});

}  // namespace tmd::evaluation
