#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/parameters.h"

namespace tmd::model {

struct ConvWeights {
  at::Tensor weight;  ///< [out, in, kernel...]
  at::Tensor bias;    ///< [out]; undefined when the layer has none
};

/// Tensors "<name>.weight" [out, in, kernel...] and "<name>.bias" [out]. Decoders are loaded and not trained,
/// so the start values are zero.
inline void visit_conv(ParameterVisitor& visitor, ConvWeights& conv, const std::string& name,
                       std::vector<int64_t> shape) {
  const int64_t out = shape.front();
  visitor(conv.weight, {name + ".weight", std::move(shape), sharding::Initialiser::constant(0)});
  visitor(conv.bias, {name + ".bias", {out}, sharding::Initialiser::constant(0)});
}

}  // namespace tmd::model
