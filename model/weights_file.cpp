#include "model/weights_file.h"

#include <ATen/ATen.h>

#include "model/weight_check.h"
#include "sharding/initialise.h"

namespace tmd::model {
namespace {

void check_names(const sharding::ShardedNetwork& network, const SafetensorsFile& file) {
  std::vector<NamedShape> wanted;
  for (int unit = 0; unit < network.units(); ++unit) {
    for (const sharding::ParamSpec& param : network.spec(unit).params) {
      wanted.push_back({param.name, param.shape});
    }
  }
  check_tensors(file.path().string(), network.name(), wanted, shapes_in(file),
                "the sizes under [model] must be those of the file");
}

}  // namespace

void load_weights(sharding::ShardedNetwork& network, const SafetensorsFile& file) {
  check_names(network, file);
  sharding::fill_slices(network, [&file](const sharding::Slice& slice, at::Tensor out) {
    const SafetensorsEntry& entry = file.at(slice.name);
    at::Tensor raw =
        at::empty({slice.elements()}, stored_type(entry.dtype, slice.name, file.path().string()));
    const auto bytes = std::span(static_cast<std::byte*>(raw.data_ptr()), raw.nbytes());
    file.read(entry, static_cast<uint64_t>(slice.flat_begin) * raw.element_size(), bytes);
    out.copy_(raw);
  });
}

void save_weights(sharding::ShardedNetwork& network, const std::filesystem::path& path,
                  const std::string& dtype, const SafetensorsMetadata& metadata) {
  const at::ScalarType type = stored_type(dtype, "the export", path.string());
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
