#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tmd::evaluation {

/// Which values of a metric are good. kNeither: it says how things are, not how good they are.
enum class Better { kMore, kLess, kNearOne, kNeither };
/// "more", "less", "near one", "neither", as files have them.
std::string_view name(Better better);
/// Nothing for another name.
std::optional<Better> better_named(std::string_view name);

/// Falls when `value` gets better; 0 for kNeither.
double badness(Better better, double value);

/// A number of a judge that two rows can be compared by.
struct Metric {
  std::string key;  ///< in the judge's JSON
  Better better = Better::kNeither;
};

/// What metrics are means of, by key: one number a sample, or, for what is measured inside prompts, one a
/// prompt. In the order of samples and prompts, so that two rows with the same ones are pairs. NaN where a
/// sample has no part in the mean.
using MetricValues = std::map<std::string, std::vector<double>>;

/// Mean of those that are not NaN; NaN when there are none.
double mean_of(const std::vector<double>& values);
/// Sets `ratio` to the mean of `values` over that of `divisors` and keeps the quotients as values of `key`.
/// Nothing happens where there are no numbers or the divisor is not positive.
void set_ratio(const std::string& key, const std::vector<double>& values, const std::vector<double>& divisors,
               std::optional<double>& ratio, MetricValues& kept);

}  // namespace tmd::evaluation
