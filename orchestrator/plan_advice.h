#pragma once

#include <string>
#include <vector>

#include "orchestrator/plan.h"

namespace tmd::orchestrator {

/// A change of the configuration or of the ranks that was planned and fits.
struct Advice {
  std::vector<std::string> words;  ///< "--train.micro_batch=1", to be added to the command
  int ranks = 0;                   ///< data workers included
  Plan plan;
};

/// Up to `count` changes that make the configuration of `files` and `words` fit on ranks of `device`
/// (device_model), each of them planned: those of fewest ranks, cheapest first by rank seconds of the run.
/// Tried are smaller micro-batches, other meshes, no average of the weights, and up to 16 times the ranks,
/// alone and together. `ranks` includes data workers.
std::vector<Advice> advise(const std::vector<std::string>& files, const std::vector<std::string>& words,
                           int ranks, const workers::SampleShape& sample, const std::string& device,
                           size_t count);

}  // namespace tmd::orchestrator
