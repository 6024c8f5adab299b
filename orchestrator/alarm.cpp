#include "orchestrator/alarm.h"

#include <algorithm>
#include <fmt/format.h>

namespace tmd::orchestrator {
namespace {

constexpr const char* kRelativeRms = "x_hat_rms / data_rms";

std::optional<double> measured_in(const std::map<std::string, double>& diag, const std::string& what) {
  if (what == kRelativeRms) {
    const auto x_hat = diag.find("x_hat_rms"), data = diag.find("data_rms");
    if (x_hat == diag.end() || data == diag.end() || data->second == 0) return {};
    return x_hat->second / data->second;
  }
  const auto found = diag.find(what);
  return found == diag.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace

Alarm::Alarm(const configs::AlarmOptions& options) : patience_(options.patience) {
  const std::vector<Limit> all = {
      {"collapse", "diversity_ratio", "alarm.min_diversity", options.min_diversity, true},
      {"collapse", "std_ratio", "alarm.min_std", options.min_std, true},
      {"lost_motion", "motion_ratio", "alarm.min_motion", options.min_motion, true},
      {"divergence", kRelativeRms, "alarm.max_rms", options.max_rms, false}};
  std::ranges::copy_if(all, std::back_inserter(limits_), [](const Limit& limit) { return limit.value > 0; });
}

bool Alarm::passes(const Limit& limit, double measured) const {
  // Samples that are no numbers have diverged; they have not collapsed.
  return limit.is_least ? measured < limit.value : !(measured <= limit.value);
}

std::optional<AlarmReport> Alarm::after(int64_t iteration, const workers::IterationReport& report) {
  if (report.phase != method::Phase::kStudent) return {};
  std::optional<AlarmReport> alarm;
  for (Limit& limit : limits_) {
    const std::optional<double> measured = measured_in(report.diag, limit.what);
    limit.in_row = measured && passes(limit, *measured) ? limit.in_row + 1 : 0;
    if (limit.in_row < patience_ || alarm) continue;
    alarm = AlarmReport{
        .reason = limit.reason,
        .text = fmt::format("iteration {}: {} = {:.4g} is {} {} = {:.4g} for {} student iteration{} in a row",
                            iteration, limit.what, *measured, limit.is_least ? "below" : "above",
                            limit.option, limit.value, patience_, patience_ == 1 ? "" : "s"),
        .hint = fmt::format("docs/judging.md says what helps; the same command with another {} goes on",
                            limit.option)};
  }
  return alarm;
}

bool Alarm::may_end_next() const {
  return std::ranges::any_of(limits_, [&](const Limit& limit) { return limit.in_row + 1 >= patience_; });
}

}  // namespace tmd::orchestrator
