#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include "method/stage1.h"
#include "method/stage2.h"
#include "workers/networks.h"

namespace tmd::golden {

using TensorMap = std::map<std::string, at::Tensor>;

/// All tensors of a safetensors file; floating-point ones as `type`, integers as int64.
TensorMap read_tensors(const std::filesystem::path& file, at::ScalarType type);

/// A folder with weights, random draws and expected values (tests/golden/README.md).
struct GoldenCase {
  std::filesystem::path folder;
  nlohmann::json json;  ///< case.json
  workers::NetworkPlan plan;
  workers::MethodOptions method;
  method::Stage1Options stage1;
  method::Stage2Options stage2;
  double r1_sigma = 0.1;
  bool gan = true;
  TensorMap draws;     ///< latents and text of the compute type, times float64
  TensorMap expected;  ///< float64

  bool expects(const std::string& name) const { return expected.contains(name); }
};

/// Reads a case. Throws kData for a key of case.json that this program does not know: a case is obeyed wholly
/// or refused.
GoldenCase read_case(const std::filesystem::path& folder, at::ScalarType type);

}  // namespace tmd::golden
