#include "orchestrator/tensor_file.h"

#include <array>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <utility>

#include <ATen/ATen.h>

#include "base/error.h"
#include "model/weight_check.h"

namespace tmd::orchestrator {
namespace {

constexpr std::array<std::pair<const char*, at::ScalarType>, 6> kTypes = {{{"F64", at::kDouble},
                                                                           {"F32", at::kFloat},
                                                                           {"F16", at::kHalf},
                                                                           {"BF16", at::kBFloat16},
                                                                           {"I64", at::kLong},
                                                                           {"I32", at::kInt}}};

const char* dtype_of(at::ScalarType type) {
  for (const auto& [name, scalar] : kTypes) {
    if (scalar == type) return name;
  }
  throw Error(ErrorKind::kInternal, fmt::format("tensors of type {} are not written", at::toString(type)));
}

}  // namespace

at::Tensor read_tensor(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsEntry* entry = file.find(name);
  if (!entry) {
    std::vector<std::string> names;
    for (const SafetensorsEntry& other : file.entries()) names.push_back(other.name);
    throw Error(ErrorKind::kData, fmt::format("{} has no tensor \"{}\"; it has: {}", file.path().string(),
                                              name, fmt::join(names, ", ")));
  }
  for (const auto& [dtype, type] : kTypes) {
    if (entry->dtype != dtype) continue;
    at::Tensor tensor = at::empty(entry->shape, type);
    file.read(*entry, 0, model::bytes_of(tensor));
    return tensor;
  }
  throw Error(ErrorKind::kData,
              fmt::format("{}: tensor \"{}\" has element type {}", file.path().string(), name, entry->dtype),
              "take F64, F32, F16, BF16, I64 or I32");
}

at::Tensor read_tensor(const SafetensorsFile& file, const std::string& name, int64_t dims,
                       const std::string& meaning) {
  at::Tensor tensor = read_tensor(file, name);
  check(tensor.dim() == dims, ErrorKind::kData,
        fmt::format("{}: tensor \"{}\" is [{}], not {}", file.path().string(), name,
                    fmt::join(tensor.sizes().begin(), tensor.sizes().end(), ", "), meaning));
  return tensor;
}

void require_folder_of(const std::filesystem::path& file) {
  const std::filesystem::path folder = file.parent_path();
  check(folder.empty() || std::filesystem::is_directory(folder), ErrorKind::kIo,
        fmt::format("cannot write {}: there is no folder {}", file.string(), folder.string()),
        "make the folder, or name another file");
}

void write_tensors(const std::filesystem::path& path, const NamedTensors& tensors,
                   const SafetensorsMetadata& metadata) {
  std::vector<SafetensorsDeclaration> declarations;
  for (const auto& [name, tensor] : tensors)
    declarations.push_back({name, dtype_of(tensor.scalar_type()), tensor.sizes().vec()});
  SafetensorsWriter writer(path, std::move(declarations), metadata);
  for (const auto& [name, tensor] : tensors) writer.append(name, model::bytes_of(tensor.contiguous()));
  writer.finish();
}

}  // namespace tmd::orchestrator
