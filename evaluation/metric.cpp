#include "evaluation/metric.h"

#include <array>
#include <cmath>
#include <limits>
#include <utility>

namespace tmd::evaluation {
namespace {

constexpr std::array<std::pair<Better, std::string_view>, 4> kNames = {{{Better::kMore, "more"},
                                                                        {Better::kLess, "less"},
                                                                        {Better::kNearOne, "near one"},
                                                                        {Better::kNeither, "neither"}}};

}  // namespace

std::string_view name(Better better) {
  for (const auto& [value, text] : kNames) {
    if (value == better) return text;
  }
  return {};
}

std::optional<Better> better_named(std::string_view name) {
  for (const auto& [value, text] : kNames) {
    if (text == name) return value;
  }
  return std::nullopt;
}

double badness(Better better, double value) {
  switch (better) {
    case Better::kMore:
      return -value;
    case Better::kLess:
      return value;
    case Better::kNearOne:
      return std::abs(value - 1);
    case Better::kNeither:
      return 0;
  }
  return 0;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0, count = 0;
  for (const double value : values) {
    if (std::isnan(value)) continue;
    sum += value;
    ++count;
  }
  return count > 0 ? sum / count : std::numeric_limits<double>::quiet_NaN();
}

void set_ratio(const std::string& key, const std::vector<double>& values, const std::vector<double>& divisors,
               std::optional<double>& ratio, MetricValues& kept) {
  if (values.empty() || divisors.empty()) return;
  const double divisor = mean_of(divisors);
  if (!(divisor > 0)) return;
  std::vector<double>& quotients = kept[key];
  quotients.clear();
  for (const double value : values) quotients.push_back(value / divisor);
  ratio = mean_of(quotients);
}

}  // namespace tmd::evaluation
