#include "model/weight_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>
#include <set>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/printable.h"

namespace tmd::model {
namespace {

constexpr size_t kShown = 20;

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::vector<std::string> differences(std::span<const NamedShape> wanted, std::span<const NamedShape> found) {
  std::map<std::string, const NamedShape*> there;
  for (const NamedShape& tensor : found) there[tensor.name] = &tensor;
  std::set<std::string> known;
  std::vector<std::string> problems;
  for (const NamedShape& tensor : wanted) {
    known.insert(tensor.name);
    const auto entry = there.find(tensor.name);
    if (entry == there.end()) {
      problems.push_back(fmt::format("{} is missing", tensor.name));
    } else if (entry->second->shape != tensor.shape) {
      problems.push_back(fmt::format("{} is {}, not {}", tensor.name, shape_text(entry->second->shape),
                                     shape_text(tensor.shape)));
    }
  }
  for (const NamedShape& tensor : found) {
    if (!known.contains(tensor.name))
      problems.push_back(fmt::format("{} is not in the model", printable(tensor.name)));
  }
  return problems;
}

}  // namespace

std::vector<NamedShape> shapes_in(const SafetensorsFile& file) {
  std::vector<NamedShape> shapes;
  for (const SafetensorsEntry& entry : file.entries()) shapes.push_back({entry.name, entry.shape});
  return shapes;
}

void check_tensors(const std::string& file, const std::string& model, std::span<const NamedShape> wanted,
                   std::span<const NamedShape> found, const std::string& hint) {
  std::vector<std::string> problems = differences(wanted, found);
  if (problems.empty()) return;
  const size_t count = problems.size(), shown = std::min(count, kShown);
  problems.resize(shown);
  throw Error(ErrorKind::kData,
              fmt::format("{} does not fit the {}: {}{}", file, model, fmt::join(problems, "; "),
                          count > shown ? fmt::format("; and {} more", count - shown) : ""),
              hint);
}

std::span<std::byte> bytes_of(const at::Tensor& tensor) {
  ensure(!tensor.is_cuda(), "bytes are those of a tensor on the host");
  return {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

at::ScalarType stored_type(const std::string& dtype, const std::string& tensor, const std::string& file) {
  if (dtype == "F64") return at::kDouble;
  if (dtype == "F32") return at::kFloat;
  if (dtype == "F16") return at::kHalf;
  if (dtype == "BF16") return at::kBFloat16;
  throw Error(ErrorKind::kData, fmt::format("{}: tensor {} has element type {}", file, tensor, dtype),
              "weights are F64, F32, F16 or BF16");
}

std::vector<at::Tensor> read_unit(const SafetensorsFile& file, const sharding::UnitSpec& unit,
                                  at::ScalarType type, const NameInFile& name_in_file) {
  std::vector<at::Tensor> tensors;
  for (const sharding::ParamSpec& param : unit.params) {
    const SafetensorsEntry& entry = file.at(name_in_file(param.name));
    const at::Tensor raw = at::empty(entry.shape, stored_type(entry.dtype, entry.name, file.path().string()));
    file.read(entry, 0, bytes_of(raw));
    tensors.push_back(raw.to(type));
  }
  return tensors;
}

}  // namespace tmd::model
