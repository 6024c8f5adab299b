// Input: config.json beside a small Wan transformer; or, when it begins with "#", the names and shapes of the
// tensors of a file, one a line: "name extent extent ...".

#include <map>
#include <sstream>

#include "model/wan_weights.h"
#include "target.h"

namespace {

using namespace tmd;

using TensorShapes = std::map<std::string, std::vector<int64_t>>;

// What the sizes are taken from.
TensorShapes small_wan() {
  return {{"patch_embedding.weight", {16, 2, 1, 2, 2}}, {"head.head.weight", {8, 16}},
          {"blocks.0.self_attn.q.weight", {16, 16}},    {"blocks.0.ffn.0.weight", {24, 16}},
          {"blocks.1.ffn.0.weight", {24, 16}},          {"text_embedding.0.weight", {16, 12}},
          {"time_embedding.0.weight", {16, 8}}};
}

TensorShapes read_shapes(std::string_view text) {
  TensorShapes shapes;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    if (!(words >> name) || name == "__metadata__") continue;
    std::vector<int64_t>& shape = shapes[name];
    for (int64_t extent = 0; words >> extent;) shape.push_back(extent);
  }
  return shapes;
}

// The data is a hole in the file. Returns whether there can be such a file.
bool write_weights(const std::filesystem::path& path, const TensorShapes& shapes) {
  std::string header;
  uint64_t end = 0;
  for (const auto& [name, shape] : shapes) {
    uint64_t size = 1;
    std::string extents;
    for (const int64_t extent : shape) {
      if (extent < 0 || __builtin_mul_overflow(size, static_cast<uint64_t>(extent), &size)) return false;
      extents += (extents.empty() ? "" : ",") + std::to_string(extent);
    }
    if (name.find_first_of("\"\\") != std::string::npos || size > uint64_t{1} << 58) return false;
    header += (header.empty() ? "{\"" : ",\"") + name + R"(":{"dtype":"U8","shape":[)" + extents +
              R"(],"data_offsets":[)" + std::to_string(end) + "," + std::to_string(end + size) + "]}";
    end += size;
  }
  header += header.empty() ? "{}" : "}";
  const uint64_t length = header.size();
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(&length), 8) << header;
  std::error_code failure;
  std::filesystem::resize_file(path, 8 + length + end, failure);
  return !failure;
}

void check_config(const model::WanConfig& config) {
  const auto is_size = [](int64_t size) { return size > 0 && size < int64_t{1} << 60; };
  fuzz::require(is_size(config.heads) && is_size(config.head_dim) && config.head_dim % 2 == 0, "heads");
  fuzz::require(is_size(config.ffn) && is_size(config.channels) && is_size(config.text_dim), "sizes");
  fuzz::require(is_size(config.freq_dim) && config.freq_dim % 2 == 0, "the time sinusoid has pairs");
  fuzz::require(config.layers > 0 && config.layers < 1'000'000, "blocks");
  fuzz::require(config.text_length > 0 && config.text_length <= 1 << 30, "text length");
  fuzz::require(config.epsilon >= 0 && config.epsilon < 1, "epsilon");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::Folder folder;
  const std::string_view text = fuzz::text_of(data, size);
  const bool is_shapes = text.starts_with('#');
  static bool is_small_wan = false;  // what the file holds
  if (is_shapes || !is_small_wan) {
    const auto shapes = is_shapes ? read_shapes(text.substr(1)) : small_wan();
    is_small_wan = !is_shapes;
    if (!write_weights(folder.path() / "model.safetensors", shapes)) return 0;
  }
  folder.write("config.json", is_shapes ? "{}" : text);
  fuzz::accepted(folder.path().string(), [&] {
    const model::WanWeights weights = model::open_wan_weights(folder.path());
    check_config(weights.config);
    fuzz::require(is_shapes || weights.config.width() == 16, "the width is that of the shapes");
    fuzz::require(weights.parameters() > 0, "parameters are counted");
  });
  return 0;
}
