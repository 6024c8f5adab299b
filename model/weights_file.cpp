#include "model/weights_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <set>

#include <ATen/ATen.h>

#include "base/error.h"
#include "sharding/initialise.h"

namespace tmd::model {
namespace {

at::ScalarType scalar_type(const std::string& dtype, const std::string& tensor, const std::string& file) {
  if (dtype == "F64") return at::kDouble;
  if (dtype == "F32") return at::kFloat;
  if (dtype == "F16") return at::kHalf;
  if (dtype == "BF16") return at::kBFloat16;
  throw Error(ErrorKind::kData, fmt::format("{}: tensor {} has element type {}", file, tensor, dtype),
              "weights are F64, F32, F16 or BF16");
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

void check_names(const sharding::ShardedNetwork& network, const SafetensorsFile& file) {
  std::vector<std::string> problems;
  std::set<std::string> known;
  for (int unit = 0; unit < network.units(); ++unit) {
    for (const sharding::ParamSpec& param : network.spec(unit).params) {
      known.insert(param.name);
      const SafetensorsEntry* entry = file.find(param.name);
      if (!entry) {
        problems.push_back(fmt::format("{} is missing", param.name));
      } else if (entry->shape != param.shape) {
        problems.push_back(
            fmt::format("{} is {}, not {}", param.name, shape_text(entry->shape), shape_text(param.shape)));
      }
    }
  }
  for (const SafetensorsEntry& entry : file.entries()) {
    if (!known.contains(entry.name)) problems.push_back(fmt::format("{} is not in the model", entry.name));
  }
  if (problems.empty()) return;
  const size_t count = problems.size(), shown = std::min<size_t>(count, 20);
  problems.resize(shown);
  throw Error(ErrorKind::kData,
              fmt::format("{} does not fit the {}: {}{}", file.path().string(), network.name(),
                          fmt::join(problems, "; "),
                          count > shown ? fmt::format("; and {} more", count - shown) : ""),
              "the sizes under [model] must be those of the file");
}

}  // namespace

void load_weights(sharding::ShardedNetwork& network, const SafetensorsFile& file) {
  check_names(network, file);
  sharding::fill_slices(network, [&file](const sharding::Slice& slice, at::Tensor out) {
    const SafetensorsEntry& entry = file.at(slice.name);
    at::Tensor raw =
        at::empty({slice.elements()}, scalar_type(entry.dtype, slice.name, file.path().string()));
    const auto bytes = std::span(static_cast<std::byte*>(raw.data_ptr()), raw.nbytes());
    file.read(entry, static_cast<uint64_t>(slice.flat_begin) * raw.element_size(), bytes);
    out.copy_(raw);
  });
}

void save_weights(sharding::ShardedNetwork& network, const std::filesystem::path& path,
                  const std::string& dtype, const SafetensorsMetadata& metadata) {
  const at::ScalarType type = scalar_type(dtype, "the export", path.string());
  std::unique_ptr<SafetensorsWriter> writer;
  if (network.mesh().world().rank() == 0) {
    std::vector<SafetensorsDeclaration> tensors;
    for (int unit = 0; unit < network.units(); ++unit) {
      for (const sharding::ParamSpec& param : network.spec(unit).params) {
        tensors.push_back({param.name, dtype, param.shape});
      }
    }
    writer = std::make_unique<SafetensorsWriter>(path, std::move(tensors), metadata);
  }
  for (int unit = 0; unit < network.units(); ++unit) {
    const auto gathered = network.gather(unit);
    if (!writer) continue;
    for (size_t i = 0; i < gathered.params.size(); ++i) {
      const at::Tensor values = gathered.params[i].to(type).contiguous();
      writer->append(network.spec(unit).params[i].name,
                     std::span(static_cast<const std::byte*>(values.data_ptr()), values.nbytes()));
    }
  }
  if (writer) writer->finish();
  network.mesh().world().barrier();
}

}  // namespace tmd::model
