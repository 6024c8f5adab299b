#pragma once

#include <memory>
#include <string>
#include <vector>

#include "orchestrator/demo_stage.h"
#include "orchestrator/evaluate.h"
#include "orchestrator/previews.h"

namespace tmd::orchestrator {

/// A number that the demo shows for each row and holds against the reference.
struct DemoMetric {
  enum class Better { kMore, kLess, kNearOne };
  const char* key;    ///< in Score::json
  const char* title;  ///< of its column
  double scale;       ///< shown value = scale * value
  int digits;         ///< behind the point
  Better better;
  /// By how much a value may be worse than the reference's; training on another processor rounds differently
  /// and gives another student of the same quality.
  double tolerance;
};

/// How much worse `value` is than `reference`, unscaled as the tolerance; negative when it is better.
double worse_by(const DemoMetric& metric, double value, double reference);

struct TextTable {
  std::vector<std::string> headings;
  std::vector<std::vector<std::string>> cells;
};

/// What a part of the demo shows at the end.
struct DemoResult {
  std::string title;
  TextTable headline;  ///< for the console
  TextTable all;       ///< every number that was measured
  std::string pictures_title;
  std::vector<std::string> picture_headings;
  std::vector<ReportPictureRow> pictures;
  std::vector<std::string> failures;  ///< expectations that were missed; empty = passed
};

/// Samples and measures the contenders of one part of the demo. Every rank has one, trainers add to it; what
/// is measured is on rank 0.
class DemoTable {
 public:
  /// `part`: its name in demo.json. Keeps a reference to `stage`. Every row is `samples` samples, an eighth
  /// of that in a quick demo.
  DemoTable(DemoStage& stage, std::string part, std::vector<DemoMetric> metrics, int64_t samples)
      : stage_(stage),
        part_(std::move(part)),
        metrics_(std::move(metrics)),
        samples_(stage.options().quick ? samples / 8 : samples) {}

  enum class Promise { kHeld, kShownOnly };
  /// `promise`: whether a row that is worse than the reference is a failure. `run` is borrowed for the call;
  /// the first one gives prompts and judge. Throws as Evaluator::make and evaluate. Collective over: the
  /// run's trainers.
  void add(TrainedRun& run, const Contender& contender, Promise promise = Promise::kHeld);

  int64_t samples() const { return samples_; }  ///< of a row
  const std::vector<EvaluationRow>& rows() const { return rows_; }
  /// Throws kInternal when there is none.
  const EvaluationRow& row(const std::string& name) const;
  const LatentPictures& pictures() const { return *pictures_; }  ///< rank 0, once there is a row

  /// The tables and what is worse than the reference; the numbers go to demo.json too. Rank 0 only, once
  /// there is a row. Throws nlohmann::json::exception for a metric that a score has not.
  DemoResult result(std::string title);

 private:
  std::string cell(const DemoMetric& metric, double value, const std::string& row) const;
  void hold_against_reference(const EvaluationRow& row, DemoResult& result) const;

  DemoStage& stage_;
  std::string part_;
  std::vector<DemoMetric> metrics_;
  int64_t samples_;
  std::unique_ptr<Evaluator> evaluator_;      // rank 0
  std::unique_ptr<LatentPictures> pictures_;  // rank 0
  std::vector<EvaluationRow> rows_;
  std::vector<Promise> promises_;  // of rows_
};

}  // namespace tmd::orchestrator
