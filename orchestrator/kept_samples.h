#pragma once

#include <cstdint>
#include <filesystem>

#include "orchestrator/evaluate.h"

namespace tmd::orchestrator {

/// sample_contender, once: `file` (safetensors) keeps the samples, and whoever evaluates another student of
/// the same network finds them there. The row's seconds are those of the sampling, whenever it was. What the
/// samples depend on lies beside them: a hash of the network's weights and their type, how it is stepped,
/// seed, texts. Throws on all ranks kData, naming what differs, when `file` holds samples of anything else or
/// is no such file, kIo when it cannot be read or written, and as sample_contender. Collective over: the
/// run's trainers.
EvaluationRow sample_once(TrainedRun& run, const Contender& contender, const Evaluator* evaluator,
                          uint64_t seed, const std::filesystem::path& file);

}  // namespace tmd::orchestrator
