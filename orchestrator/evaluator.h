#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include "data/data_set.h"

namespace tmd::orchestrator {

/// What a set of samples scored.
struct Score {
  nlohmann::json json;
  std::vector<std::string> cells;  ///< one per heading of the evaluator
  double distance = 0;  ///< the headline distance to the data: Fréchet or sliced Wasserstein; less is better
  double accuracy = 0;  ///< shapes: joint accuracy; mixture: share of modes covered; other data: 1
};

/// Measures samples against the data of a set, by rules that fit it: the moving-shapes toy, the 2-D mixture,
/// or any latents. Made on one rank; no communication.
class Evaluator {
 public:
  virtual ~Evaluator() = default;

  /// Chooses by the set's `generator`. `count` samples will be measured. `data` is borrowed for the call.
  /// Throws kData when the set has fewer than 2 `count` samples and they are needed as references, or one
  /// that is read is broken; kInternal for fewer than 6 videos of shapes; and as toy_shapes_spec.
  static std::unique_ptr<Evaluator> make(data::DataSet& data, int64_t count, uint64_t seed);

  virtual std::string name() const = 0;
  virtual std::vector<std::string> headings() const = 0;
  /// samples [count, C, T, H, W], normalised; sample i was made from the caption of row i of `text`. Throws
  /// kInternal or kData for another shape, kDiverged for values that are not finite.
  virtual Score measure(const at::Tensor& samples) const = 0;
  /// What a second real set of the same size scores.
  virtual Score floor() const = 0;
  /// The prompts to sample with: [count, S, E].
  const at::Tensor& text() const { return text_; }

 protected:
  at::Tensor text_;
};

}  // namespace tmd::orchestrator
