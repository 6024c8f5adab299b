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
  /// Where the teacher starts from, or empty for random weights: for kWan whatever open_wan_weights takes,
  /// for kMlp a .safetensors file. Not a checkpoint folder of a run.
  std::string weights;
};

}  // namespace tmd::model
