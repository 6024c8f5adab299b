#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "configs/config.h"
#include "orchestrator/eval_compare.h"
#include "orchestrator/evaluate.h"

namespace tmd::orchestrator {

// The result of `tmd eval` as a file (docs/formats/eval.md) and as text.

inline constexpr const char* kEvaluationFormat = "tmd-eval";
inline constexpr int kEvaluationVersion = 2;

/// What was evaluated.
struct ReportOrigin {
  int64_t step = 0;
  bool average = false;  ///< the averaged weights
  uint64_t seed = 0;
  configs::Config config;  ///< of the run
  uint64_t data_hash = 0;  ///< DataSet::data_hash
};

/// How a contender of a run with `config` is sampled: network, method or solver, steps.
nlohmann::json contender_json(const configs::Config& config, const Contender& contender);

/// The whole result. `rows[i]` is that of `contenders[i]`. Every row gets the intervals of its numbers, and a
/// student is compared with the teacher of as many steps.
nlohmann::json evaluation_report(const Evaluator& evaluator, const ReportOrigin& origin,
                                 const std::vector<Contender>& contenders,
                                 const std::vector<EvaluationRow>& rows);

/// A number of a result; NaN for null.
double number_of(const nlohmann::json& value);

/// JSON text with objects indented and lists of numbers on one line each; bytes that are no UTF-8 are
/// replaced.
std::string report_text(const nlohmann::json& report);

/// Every metric of a result, a line each: what real data score, then each row with its interval.
std::string vector_table(const nlohmann::json& report);
/// Changes from A to B as they stand in the file, and those as text, a line each. `a`, `b`: headings.
nlohmann::json changes_json(const std::vector<MetricChange>& changes);
std::string changes_table(const std::string& a, const std::string& b, const nlohmann::json& changes);

}  // namespace tmd::orchestrator
