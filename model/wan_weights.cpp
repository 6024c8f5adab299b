#include "model/wan_weights.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>
#include <system_error>

#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/printable.h"
#include "base/strict_json.h"

namespace tmd::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kPublishedHeadDim = 128;
constexpr int64_t kPublishedTextDim = 4096;
constexpr uint64_t kLargestConfig = uint64_t{1} << 20;
constexpr double kLargestSize = 1 << 30;  // of what a description says
constexpr const char* kIndexSuffix = ".safetensors.index.json";
constexpr const char* kFileSuffix = ".safetensors";
constexpr const char* kModelKey = "tmd.model";  // sizes in the metadata of an export
constexpr const char* kOtherKinds = "image-to-video and other conditioned kinds of Wan are not supported";
constexpr const char* kWholeModel = "weights and config.json must be those of one Wan2.1 text-to-video model";
constexpr const char* kWhatToName = "name a .safetensors file, its index, or the folder of a model";

// What cannot be examined (a name too long, a link to itself) does not exist for us.
bool is_there(const fs::path& path) {
  std::error_code failure;
  return fs::exists(path, failure);
}

bool is_folder(const fs::path& path) {
  std::error_code failure;
  return fs::is_directory(path, failure);
}

std::vector<fs::path> files_ending(const fs::path& folder, const std::string& suffix) {
  std::vector<fs::path> found;
  for (const fs::path& path : list_folder(folder)) {
    if (path.filename().string().ends_with(suffix) && !is_folder(path)) found.push_back(path);
  }
  return found;
}

fs::path only_one(const std::vector<fs::path>& found, const fs::path& folder) {
  if (found.size() == 1) return found.front();
  std::vector<std::string> names;
  for (const fs::path& path : found) names.push_back(path.filename().string());
  throw Error(ErrorKind::kData,
              fmt::format("{} holds several weights: {}", folder.string(), fmt::join(names, ", ")),
              "name one of them");
}

[[noreturn]] void refuse(const fs::path& path, const std::string& reason,
                         const std::string& hint = kWholeModel) {
  throw Error(ErrorKind::kData, fmt::format("{}: {}", path.string(), reason), hint);
}

// What the shapes of the tensors say.
class Shapes {
 public:
  Shapes(const SafetensorsSet& files, const WanSpelling& spelling) : files_(files), spelling_(spelling) {}

  std::vector<int64_t> of(const std::string& original, size_t dims) const {
    const std::string name = spelling_.of(original);
    const SafetensorsSet::Tensor* tensor = files_.find(name);
    if (!tensor) refuse(files_.path(), fmt::format("tensor {} is missing", name));
    const std::vector<int64_t>& shape = tensor->entry->shape;
    const std::string where = tensor->file->path().string() + ": tensor " + name;
    if (shape.size() < dims)
      refuse(where, fmt::format("it has {} dimensions, {} are due", shape.size(), dims));
    if (std::ranges::count(shape, 0) > 0) refuse(where, "it is empty");
    return shape;
  }

  // Blocks 0 .. n-1; a gap is found as missing tensors later. A block has tensors, so there are fewer blocks.
  int64_t layers() const {
    const std::string front = spelling_.prefix + "blocks.";
    int64_t layers = 0;
    for (auto at = files_.tensors().lower_bound(front);
         at != files_.tensors().end() && at->first.starts_with(front); ++at) {
      int64_t index = -1;
      std::from_chars(at->first.data() + front.size(), at->first.data() + at->first.size(), index);
      if (index >= static_cast<int64_t>(files_.tensors().size())) {
        refuse(at->second.file->path(),
               fmt::format("tensor {}: its {} tensors are too few for so many blocks", printable(at->first),
                           files_.tensors().size()));
      }
      layers = std::max(layers, index + 1);
    }
    return layers;
  }

 private:
  const SafetensorsSet& files_;
  const WanSpelling& spelling_;
};

WanSpelling recognise(const SafetensorsSet& files) {
  std::vector<std::string> first;
  for (const auto& [name, tensor] : files.tensors()) {
    if (auto spelling = recognise_spelling(name)) return *spelling;
    if (first.size() < 3) first.push_back(printable(name));
  }
  refuse(files.path(),
         fmt::format("no Wan transformer: of its {} tensors the first are {}", files.tensors().size(),
                     fmt::join(first, ", ")),
         "a transformer has blocks.0.self_attn.q.weight (original naming) or blocks.0.attn1.to_q.weight "
         "(diffusers)");
}

// Heads as in the published models, 128 wide; where those do not fill the width one head, which must be known
// better from elsewhere.
WanConfig sizes_of(const SafetensorsSet& files, const WanSpelling& spelling, int64_t width) {
  const Shapes shapes(files, spelling);
  WanConfig config;
  const auto patch = shapes.of("patch_embedding.weight", 2);
  const int64_t output = shapes.of("head.head.weight", 2)[0];
  const bool is_flat = patch.size() == 2;
  config.channels = is_flat ? patch[1] / 4 : patch[1];
  if (output % 4 != 0 || output / 4 != config.channels || (is_flat && patch[1] % 4 != 0)) {
    refuse(files.path(),
           fmt::format("it takes {} {} and returns {} values a patch: not a text-to-video transformer",
                       patch[1], is_flat ? "values a patch" : "channels", output),
           kOtherKinds);
  }
  if (width % 2 != 0)
    refuse(files.path(), fmt::format("its width {} is odd, and so would be that of a head", width));
  config.head_dim = width % kPublishedHeadDim == 0 ? kPublishedHeadDim : width;
  config.heads = width / config.head_dim;
  config.ffn = shapes.of("blocks.0.ffn.0.weight", 2)[0];
  config.layers = shapes.layers();
  config.text_dim = shapes.of("text_embedding.0.weight", 2)[1];
  config.freq_dim = shapes.of("time_embedding.0.weight", 2)[1];
  if (config.freq_dim % 2 != 0)
    refuse(files.path(), fmt::format("its time embedding takes {} values, an odd number", config.freq_dim));
  return config;
}

// The entries of a description of sizes: config.json of the original code or of diffusers, or what an export
// says in its metadata. A size goes by several names.
class Description {
 public:
  Description(json values, std::string where) : values_(std::move(values)), where_(std::move(where)) {
    if (!values_.is_object()) refuse(where_, "it is not a JSON object");
    const auto kind = values_.find("_class_name");
    if (kind != values_.end() && *kind != "WanModel" && *kind != "WanTransformer3DModel")
      refuse(where_,
             fmt::format("it describes a {}, not a Wan text-to-video transformer", printable(kind->dump())));
    const auto type = values_.find("model_type");
    if (type != values_.end() && *type != "t2v")
      refuse(where_, fmt::format("model_type is {}, not \"t2v\"", printable(type->dump())), kOtherKinds);
  }

  struct Entry {
    std::string key;
    double value;
  };
  std::optional<Entry> find(std::initializer_list<const char*> keys) const {
    for (const char* key : keys) {
      const auto found = values_.find(key);
      if (found == values_.end() || found->is_null()) continue;
      if (!found->is_number()) refuse(where_, fmt::format("\"{}\" is not a number", key));
      return Entry{key, found->get<double>()};
    }
    return {};
  }

  // A whole number of things, at least 1.
  std::optional<int64_t> count(std::initializer_list<const char*> keys) const {
    const auto said = find(keys);
    if (!said) return {};
    if (said->value < 1 || said->value > kLargestSize || said->value != std::floor(said->value))
      refuse(where_, fmt::format("\"{}\" is {}, not a count", said->key, said->value));
    return static_cast<int64_t>(said->value);
  }

  void expect(std::initializer_list<const char*> keys, int64_t found) const {
    const auto said = find(keys);
    if (said && said->value != static_cast<double>(found))
      refuse(where_, fmt::format("{} is {}, but the weights have {}", said->key, said->value, found));
  }

  const std::string& where() const { return where_; }

 private:
  json values_;
  std::string where_;
};

// What descriptions have said of what cannot be seen in the shapes.
struct Said {
  bool heads = false, epsilon = false;
};

// Heads, text length and epsilon cannot be seen in the shapes; everything else must agree with them.
void apply(const Description& description, WanConfig& config, int64_t width, Said& said) {
  const auto heads = description.count({"num_heads", "num_attention_heads", "heads"});
  const auto head_dim = description.count({"attention_head_dim", "head_dim"});
  if (heads || head_dim) {
    config.heads = heads ? *heads : width / *head_dim;
    if (config.heads < 1 || width % config.heads != 0 || width / config.heads % 2 != 0) {
      refuse(description.where(),
             fmt::format("{} heads do not divide the width {} of the weights evenly", config.heads, width));
    }
    config.head_dim = width / config.heads;
  }
  description.expect({"dim"}, width);
  description.expect({"attention_head_dim", "head_dim"}, config.head_dim);
  description.expect({"ffn_dim", "ffn"}, config.ffn);
  description.expect({"num_layers", "layers"}, config.layers);
  description.expect({"in_dim", "in_channels", "channels"}, config.channels);
  description.expect({"out_dim", "out_channels"}, config.channels);
  description.expect({"freq_dim"}, config.freq_dim);
  description.expect({"text_dim"}, config.text_dim);
  if (const auto epsilon = description.find({"eps"})) {
    if (epsilon->value < 0 || epsilon->value >= 1)
      refuse(description.where(), fmt::format("eps is {}, not between 0 and 1", epsilon->value));
    config.epsilon = epsilon->value;
    said.epsilon = true;
  }
  if (const auto length = description.count({"text_len", "text_length"})) config.text_length = *length;
  said.heads |= heads || head_dim;
}

// What describes the sizes, in ascending order of precedence: the metadata of an export, then config.json,
// which says less where its class knows no text length.
std::vector<Description> descriptions(const SafetensorsSet& files, const fs::path& config_file) {
  std::vector<Description> found;
  const auto metadata = files.metadata().find(kModelKey);
  if (metadata != files.metadata().end()) {
    const std::string where = files.path().string() + " metadata " + kModelKey;
    found.emplace_back(parse_strict_json(metadata->second, where), where);
  }
  if (!config_file.empty())
    found.emplace_back(read_strict_json(config_file, kLargestConfig), config_file.string());
  return found;
}

}  // namespace

fs::path find_weights(const fs::path& path) {
  if (!is_there(path)) refuse(path, "there is no such file or folder", kWhatToName);
  const std::string file_name = path.filename().string();
  if (!is_folder(path)) {
    const std::set<std::string> pickles = {".pth", ".pt", ".ckpt", ".bin"};
    if (pickles.contains(path.extension().string())) {
      refuse(path, "a pickle, which is not read",
             "convert it to safetensors, or take the published safetensors files");
    }
    if (!file_name.ends_with(kFileSuffix) && !file_name.ends_with(kIndexSuffix))
      refuse(path, "neither a .safetensors file nor a .safetensors.index.json", kWhatToName);
    return path;
  }
  if (const auto found = files_ending(path, kIndexSuffix); !found.empty()) return only_one(found, path);
  if (const auto found = files_ending(path, kFileSuffix); !found.empty()) return only_one(found, path);
  if (is_folder(path / "transformer")) return find_weights(path / "transformer");
  refuse(path, "no .safetensors file in it", kWhatToName);
}

int64_t WanWeights::parameters() const {
  int64_t count = 0;
  for (const auto& [name, tensor] : files.tensors()) count += tensor.entry->elements();
  return count;
}

std::vector<std::string> WanWeights::dtypes() const {
  std::map<std::string, uint64_t> bytes;
  for (const auto& [name, tensor] : files.tensors()) bytes[tensor.entry->dtype] += tensor.entry->size_bytes();
  std::vector<std::pair<uint64_t, std::string>> sorted;
  for (const auto& [dtype, size] : bytes) sorted.emplace_back(size, dtype);
  std::ranges::sort(sorted, std::greater<>{});
  std::vector<std::string> names;
  for (auto& [size, dtype] : sorted) names.push_back(std::move(dtype));
  return names;
}

WanWeights open_wan_weights(const fs::path& path) {
  SafetensorsSet files(find_weights(path));
  const WanSpelling spelling = recognise(files);
  const int64_t width = Shapes(files, spelling).of("patch_embedding.weight", 2)[0];
  WanConfig config = sizes_of(files, spelling, width);
  const fs::path beside = files.path().parent_path() / "config.json";
  const fs::path config_file = is_there(beside) ? beside : fs::path();
  Said said;
  for (const Description& description : descriptions(files, config_file))
    apply(description, config, width, said);
  bool has_student_parts = false;
  for (const auto& [name, tensor] : files.tensors())
    has_student_parts |= name.starts_with(spelling.prefix + "tmd.");
  return {std::move(files), spelling, config, config_file, said.heads, said.epsilon, has_student_parts};
}

std::string config_json(const WanConfig& config, WanNaming naming) {
  nlohmann::ordered_json json;
  if (naming == WanNaming::kOriginal) {
    json = {{"_class_name", "WanModel"},  {"dim", config.width()},         {"eps", config.epsilon},
            {"ffn_dim", config.ffn},      {"freq_dim", config.freq_dim},   {"in_dim", config.channels},
            {"model_type", "t2v"},        {"num_heads", config.heads},     {"num_layers", config.layers},
            {"out_dim", config.channels}, {"text_len", config.text_length}};
    // The published files lack it, and the class has a default.
    if (config.text_dim != kPublishedTextDim) json["text_dim"] = config.text_dim;
  } else {
    json = {{"_class_name", "WanTransformer3DModel"},
            {"added_kv_proj_dim", nullptr},
            {"attention_head_dim", config.head_dim},
            {"cross_attn_norm", true},
            {"eps", config.epsilon},
            {"ffn_dim", config.ffn},
            {"freq_dim", config.freq_dim},
            {"image_dim", nullptr},
            {"in_channels", config.channels},
            {"num_attention_heads", config.heads},
            {"num_layers", config.layers},
            {"out_channels", config.channels},
            {"patch_size", {1, WanConfig::kPatchHeight, WanConfig::kPatchWidth}},
            {"pos_embed_seq_len", nullptr},
            {"qk_norm", "rms_norm_across_heads"},
            {"rope_max_seq_len", 1024},
            {"text_dim", config.text_dim}};
  }
  return json.dump(2) + "\n";
}

}  // namespace tmd::model
