#pragma once

#include <filesystem>

#include "comm/communicator.h"
#include "orchestrator/sample_source.h"

namespace tmd::orchestrator {

/// Samples of a teacher to be made, as a data set.
struct SynthRequest {
  std::filesystem::path weights;  ///< as SampleSource::open
  SourceOptions source;
  std::filesystem::path prompts;  ///< a tmd-latents file; sample i has prompt i modulo their number
  std::filesystem::path output;   ///< folder of the parts, made where it is missing
  int64_t count = 0;              ///< samples in all, at least 1
  int64_t part = 0;               ///< samples of a file, at least 1
  uint64_t seed = 1;              ///< the noise of sample i is a function of (seed, i): Purpose::kPairNoise
};

/// Writes the samples part by part (SynthFolder), each of which appears as a whole, with a line about
/// progress. Parts that exist are checked and kept. Returns 0, or kRequeue when a signal or a limit of time
/// has ended it between two parts: the same request goes on. Throws, on all ranks: kUsage for a student,
/// kConfig when the folder holds parts that were made otherwise or is in use, kData for a broken one; and as
/// SampleSource. Collective over: `world`.
int synthesize(comm::Communicator& world, const SynthRequest& request);

}  // namespace tmd::orchestrator
