#include "comparison.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

namespace tmd::golden {

void Comparison::add(const std::string& name, const at::Tensor& expected, const at::Tensor& actual,
                     double limit) {
  if (expected.numel() != actual.numel()) {
    rows_.push_back({name + " (size)", std::numeric_limits<double>::infinity(), limit});
    return;
  }
  const at::Tensor e = expected.to(at::kDouble).flatten(), a = actual.to(at::kDouble).flatten();
  const double norm = e.norm().item<double>(), difference = (e - a).norm().item<double>();
  rows_.push_back({name, norm > 0 ? difference / norm : difference, limit});
}

void Comparison::add(const std::string& name, double expected, double actual, double limit) {
  const double scale = std::abs(expected);
  rows_.push_back({name, scale > 0 ? std::abs(expected - actual) / scale : std::abs(actual), limit});
}

bool Comparison::passed() const {
  // A distance that is not a number fails too.
  return missing_.empty() &&
         std::all_of(rows_.begin(), rows_.end(), [](const Row& r) { return r.distance <= r.limit; });
}

void Comparison::print(std::ostream& out, int ranks) const {
  std::vector<Row> sorted = rows_;
  const auto excess = [](const Row& r) { return std::isfinite(r.distance) ? r.distance / r.limit : 1e300; };
  std::sort(sorted.begin(), sorted.end(), [&](const Row& a, const Row& b) { return excess(a) > excess(b); });
  for (const Row& row : sorted) {
    if (!(row.distance <= row.limit))
      out << fmt::format("FAR      {}  rel {:.2e}  limit {:.0e}\n", row.name, row.distance, row.limit);
  }
  for (const std::string& name : missing_) out << "missing  " << name << "\n";
  if (!sorted.empty()) {
    out << fmt::format("worst    {}  rel {:.2e}  limit {:.0e}\n", sorted[0].name, sorted[0].distance,
                       sorted[0].limit);
  }
  out << fmt::format(
      "{} values compared on {} rank{}, {} outside, {} missing: {}\n", rows_.size(), ranks,
      ranks == 1 ? "" : "s",
      std::count_if(rows_.begin(), rows_.end(), [](const Row& r) { return !(r.distance <= r.limit); }),
      missing_.size(), passed() ? "PASS" : "FAIL");
}

}  // namespace tmd::golden
