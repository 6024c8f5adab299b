#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include "data/data_set.h"
#include "evaluation/metric.h"

namespace tmd::orchestrator {

/// What a set of samples scored.
struct Score {
  nlohmann::json json;
  std::vector<std::string> cells;  ///< one per heading of the evaluator
  double distance = 0;  ///< the headline distance to the data: Fréchet or sliced Wasserstein; less is better
  double accuracy = 0;  ///< shapes: joint accuracy; mixture: share of modes covered; other data: 1
  evaluation::MetricValues values;  ///< what numbers of `json` are means of
};

/// A prompt that samples are made from.
struct EvaluatedPrompt {
  int64_t first = 0;  ///< number of the first sample made from it; where the data give the prompts, its row
  std::string text;   ///< empty when the data set has none
  std::string hash;   ///< XXH3-64 of its embedding in float32, 16 hexadecimal digits
};

/// Measures samples against the data of a set, by rules that fit it: the moving-shapes toy, the 2-D mixture,
/// or any latents. Made on one rank; no communication.
class Evaluator {
 public:
  virtual ~Evaluator() = default;

  /// Chooses by the set's `generator`. `count` samples will be measured. `data` is borrowed for the call.
  /// Throws kUsage, with the number, when a metric needs more samples than `count`; kData when the set has
  /// fewer than 2 `count` samples and they are needed as references, or one that is read is broken; and as
  /// toy_shapes_spec.
  static std::unique_ptr<Evaluator> make(data::DataSet& data, int64_t count, uint64_t seed);

  /// "shapes", "mixture" or "latents".
  virtual std::string judge() const = 0;
  /// The same for people.
  virtual std::string name() const = 0;
  virtual std::vector<std::string> headings() const = 0;
  /// The numbers of a score that rows can be compared by.
  virtual const std::vector<evaluation::Metric>& metrics() const = 0;
  /// samples [rows of text(), C, T, H, W], normalised; sample i was made from row i. `teacher`: the samples
  /// of the many-step teacher from the same noise; undefined for the teacher itself. Throws kInternal or
  /// kData for another shape, kDiverged for values that are not finite.
  virtual Score measure(const at::Tensor& samples, const at::Tensor& teacher = {}) const = 0;
  /// What a second real set of the same size, with the prompts of the samples, scores.
  virtual Score floor() const = 0;

  /// Samples that are held against as many of the data.
  int64_t count() const { return count_; }
  /// The prompts to sample with: [rows, S, E]. The first count() rows are what the data are compared with;
  /// where hardly any prompt stands there four times, a few more rows repeat some, for the diversity alone.
  const at::Tensor& text() const { return text_; }
  /// The different prompts, and for each row of text() the place of its prompt among them.
  const std::vector<EvaluatedPrompt>& prompts() const { return prompts_; }
  const std::vector<int64_t>& prompt_of_row() const { return prompt_of_row_; }
  /// Identifies the real data that samples are held against, together with the seed.
  const std::string& reference() const { return reference_; }

 protected:
  /// `texts`: one for each row of `text`, or none.
  void set_prompts(at::Tensor text, const std::vector<std::string>& texts);

  int64_t count_ = 0;
  at::Tensor text_;
  std::vector<EvaluatedPrompt> prompts_;
  std::vector<int64_t> prompt_of_row_;
  std::string reference_;
};

}  // namespace tmd::orchestrator
