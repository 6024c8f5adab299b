#include "evaluation/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <boost/math/distributions/students_t.hpp>

#include "base/error.h"
#include "base/philox.h"

namespace tmd::evaluation {
namespace {

constexpr uint64_t kResampleStream = 1;  // sliced_wasserstein.cpp has 0

double resampled_mean(std::span<const double> values, const PhiloxStream& stream) {
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) sum += values[stream.below(i, values.size())];
  return sum / static_cast<double>(values.size());
}

// Quantile with linear interpolation between order statistics; `sorted` is ascending.
double quantile(std::span<const double> sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(std::floor(place));
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - std::floor(place)) * (sorted[above] - sorted[below]);
}

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Share of the resamples below the interval of `count` values; `tail` when there are many.
double lower_share(double tail, size_t count) {
  if (count < 2) return tail;
  const auto n = static_cast<double>(count);
  const double t = boost::math::quantile(boost::math::students_t(n - 1), tail);
  return std::erfc(-t * std::sqrt(n / (n - 1)) / std::sqrt(2.0)) / 2;
}

// `draw` is the estimate of one resample of `count` values.
template <class Draw>
Interval resampled(double estimate, size_t count, const BootstrapOptions& options, Draw draw) {
  ensure(options.resamples >= 1, "a bootstrap needs resamples");
  ensure(options.confidence > 0 && options.confidence < 1, "confidence lies between 0 and 1");
  std::vector<double> draws(options.resamples);
  for (size_t r = 0; r < draws.size(); ++r)
    draws[r] = draw(PhiloxStream(options.seed, kResampleStream, r, Purpose::kEvaluation));
  std::ranges::sort(draws);
  const double tail = lower_share((1 - options.confidence) / 2, count);
  return {estimate, quantile(draws, tail), quantile(draws, 1 - tail)};
}

}  // namespace

Interval bootstrap_mean(std::span<const double> values, const BootstrapOptions& options) {
  ensure(!values.empty(), "a bootstrap needs values");
  return resampled(mean(values), values.size(), options,
                   [&](const PhiloxStream& stream) { return resampled_mean(values, stream); });
}

Interval bootstrap_paired_difference(std::span<const double> a, std::span<const double> b,
                                     const BootstrapOptions& options) {
  ensure(a.size() == b.size(), "paired values have the same count");
  std::vector<double> differences(a.size());
  std::ranges::transform(a, b, differences.begin(), std::minus<>());
  return bootstrap_mean(differences, options);
}

Interval bootstrap_paired_statistic(std::span<const double> a, std::span<const double> b,
                                    const std::function<double(double a, double b)>& statistic,
                                    const BootstrapOptions& options) {
  ensure(!a.empty() && a.size() == b.size(), "paired values have the same count, and there are some");
  return resampled(statistic(mean(a), mean(b)), a.size(), options, [&](const PhiloxStream& stream) {
    return statistic(resampled_mean(a, stream), resampled_mean(b, stream));
  });
}

}  // namespace tmd::evaluation
