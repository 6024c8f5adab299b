#pragma once

#include <string>

#include "model/mlp.h"
#include "model/wan_config.h"

namespace tmd::model {

enum class ModelKind {
  kWan,  ///< Wan2.1 transformer of any size
  kMlp,  ///< perceptron for problems of a few numbers, without text
};

/// `[model]` of the configuration.
struct ModelOptions {
  ModelKind kind = ModelKind::kWan;
  WanConfig wan;
  MlpConfig mlp;
  /// Where the teacher starts from: a .safetensors file that load_weights takes, for kWan in the names of
  /// Wan's original checkpoints (Wan 3.2), or empty for random weights. Not a checkpoint folder of a run.
  std::string weights;
};

}  // namespace tmd::model
