// Input: an index beside the files 1.safetensors (tensors a, b) and 2.safetensors (c).

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/safetensors_set.h"
#include "target.h"

namespace {

using namespace tmd;

struct Model {
  Model() {
    configure_log(0, LogLevel::kError);  // a wrong total_size is a warning
    write("1.safetensors", {{"a", "U8", {3}}, {"b", "F32", {}}});
    write("2.safetensors", {{"c", "U8", {0}}});
  }
  void write(const std::string& name, const std::vector<SafetensorsDeclaration>& tensors) const {
    SafetensorsWriter writer(folder.path() / name, tensors);
    const std::byte bytes[4] = {};
    for (const auto& tensor : tensors)
      writer.append(tensor.name, std::span(bytes, tensor.name == "a" ? 3 : tensor.name == "b" ? 4 : 0));
    writer.finish();
  }
  fuzz::Folder folder;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Model model;
  const std::string_view text = fuzz::text_of(data, size);
  const std::filesystem::path index = model.folder.write("model.safetensors.index.json", text);
  fuzz::accepted(model.folder.path().string(), [&] {
    const SafetensorsSet set(index);
    const auto map = nlohmann::json::parse(text).at("weight_map");
    fuzz::require(map.size() == set.tensors().size(), "the index names every tensor once");
    for (const auto& [name, tensor] : set.tensors())
      fuzz::require(map.at(name) == tensor.file->path().filename().string(),
                    "tensors are where the index says");
  });
  return 0;
}
