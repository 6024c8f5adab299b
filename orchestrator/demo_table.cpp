#include "orchestrator/demo_table.h"

#include <cmath>
#include <fmt/format.h>

#include "base/error.h"
#include "comm/agree.h"
#include "orchestrator/eval_report.h"

namespace tmd::orchestrator {
namespace {

constexpr uint64_t kEvaluationSeed = 77;

std::string shown(const DemoMetric& metric, double value) {
  return fmt::format("{:.{}f}", metric.scale * value, metric.digits);
}

}  // namespace

double worse_by(const DemoMetric& metric, double value, double reference) {
  switch (metric.better) {
    case DemoMetric::Better::kMore:
      return reference - value;
    case DemoMetric::Better::kLess:
      return value - reference;
    case DemoMetric::Better::kNearOne:
      return std::abs(value - 1) - std::abs(reference - 1);
  }
  return 0;
}

void DemoTable::add(TrainedRun& run, const Contender& contender, Promise promise) {
  comm::run_agreed(run.job().trainers(), [&] {
    if (evaluator_ || !stage_.is_first_rank()) return;
    evaluator_ = Evaluator::make(run.job().data(), samples_, kEvaluationSeed);
    pictures_ = LatentPictures::make(run.job().data().header(), run.config().decoder);
  });
  stage_.say(fmt::format("{}: {} samples of {}", part_, samples_, contender.name));
  rows_.push_back(evaluate(run, contender, evaluator_.get(), kEvaluationSeed, [&](int64_t done) {
    if (done < samples_) stage_.say(fmt::format("{}: {} of {}", contender.name, done, samples_));
  }));
  promises_.push_back(promise);
}

const EvaluationRow& DemoTable::row(const std::string& name) const {
  for (const EvaluationRow& candidate : rows_) {
    if (candidate.name == name) return candidate;
  }
  throw Error(ErrorKind::kInternal, "the demo has no row " + name);
}

std::string DemoTable::cell(const DemoMetric& metric, double value, const std::string& row) const {
  const auto promised = stage_.reference().value(part_, row, metric.key);
  return shown(metric, value) + (promised ? " (" + shown(metric, *promised) + ")" : "");
}

void DemoTable::hold_against_reference(const EvaluationRow& row, DemoResult& result) const {
  for (const DemoMetric& metric : metrics_) {
    const double value = number_of(row.score.json.at(metric.key));
    const auto promised = stage_.reference().value(part_, row.name, metric.key);
    if (!promised || worse_by(metric, value, *promised) <= metric.tolerance) continue;
    result.failures.push_back(fmt::format("{}: {} is {}, the README shows {}", row.name, metric.title,
                                          shown(metric, value), shown(metric, *promised)));
  }
}

DemoResult DemoTable::result(std::string title) {
  DemoResult result;
  result.title = std::move(title);
  result.headline.headings = {"", "NFE", "ms/sample"};
  std::vector<std::string> real = {"real data", "", ""};
  for (const DemoMetric& metric : metrics_) {
    result.headline.headings.emplace_back(metric.title);
    real.push_back(shown(metric, number_of(evaluator_->floor().json.at(metric.key))));
  }
  result.headline.cells.push_back(std::move(real));
  nlohmann::json& part = stage_.results()[part_];
  for (size_t i = 0; i < rows_.size(); ++i) {
    const EvaluationRow& row = rows_[i];
    std::vector<std::string> cells = {row.name, fmt::format("{:.2f}", row.effective_nfe),
                                      fmt::format("{:.1f}", 1000 * row.seconds_per_sample)};
    for (const DemoMetric& metric : metrics_)
      cells.push_back(cell(metric, number_of(row.score.json.at(metric.key)), row.name));
    result.headline.cells.push_back(std::move(cells));
    part[row.name] = row.score.json;
    part[row.name]["effective_nfe"] = row.effective_nfe;
    part[row.name]["seconds_per_sample"] = row.seconds_per_sample;
    if (promises_[i] == Promise::kHeld) hold_against_reference(row, result);
  }
  result.all = {table_headings(*evaluator_), table_cells(*evaluator_, rows_)};
  return result;
}

}  // namespace tmd::orchestrator
