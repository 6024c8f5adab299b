#pragma once

#include <string>

#include "configs/config.h"
#include "workers/batch_buffers.h"

namespace tmd::orchestrator {

/// Sizes of a sample for a plan: `latent` ("C,T,H,W") when it is not empty, else those of data.files, else
/// of 81 frames of 480 x 832. Throws kUsage, in the name of `verb`, for another text, and as data::DataSet.
workers::SampleShape planned_sample(const std::string& verb, const configs::Config& config,
                                    const std::string& latent);

}  // namespace tmd::orchestrator
