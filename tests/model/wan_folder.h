#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "../data/temporary_folder.h"
#include "base/publish.h"
#include "base/safetensors.h"
#include "model/wan_dit.h"
#include "model/wan_names.h"

namespace tmd::test {

using TensorShapes = std::map<std::string, std::vector<int64_t>>;

/// Names as in `spelling` and shapes of all tensors of a Wan transformer.
inline TensorShapes wan_shapes(const model::WanConfig& config, const model::WanSpelling& spelling = {}) {
  TensorShapes shapes;
  for (const auto& unit : model::wan_units(config)) {
    for (const auto& param : unit.params) shapes[spelling.of(param.name)] = param.shape;
  }
  return shapes;
}

/// A safetensors file with tensors of zeros.
inline void write_zeros(const std::filesystem::path& path, const TensorShapes& shapes,
                        const std::string& dtype = "F32", const SafetensorsMetadata& metadata = {}) {
  std::vector<SafetensorsDeclaration> declarations;
  for (const auto& [name, shape] : shapes) declarations.push_back({name, dtype, shape});
  SafetensorsWriter writer(path, declarations, metadata);
  for (const auto& [name, shape] : shapes) {
    uint64_t bytes = safetensors_bits(dtype).value() / 8;
    for (const int64_t extent : shape) bytes *= static_cast<uint64_t>(extent);
    writer.append(name, std::vector<std::byte>(bytes));
  }
  writer.finish();
}

}  // namespace tmd::test
