#include "orchestrator/describe_weights.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <map>

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/printable.h"
#include "base/safetensors_set.h"
#include "model/tmd_student.h"
#include "model/wan_vae.h"
#include "model/wan_weights.h"
#include "model/weights_file.h"
#include "orchestrator/export_info.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

std::string files_and_types(const SafetensorsSet& set) {
  std::map<std::string, std::pair<int64_t, int64_t>> by_type;  // tensors, elements
  for (const auto& [name, tensor] : set.tensors()) {
    by_type[tensor.entry->dtype].first += 1;
    by_type[tensor.entry->dtype].second += tensor.entry->elements();
  }
  std::string text =
      fmt::format("  {} file{}, {:.3f} GB of tensors\n", set.files().size(),
                  set.files().size() == 1 ? "" : "s", static_cast<double>(set.data_bytes()) / 1e9);
  for (const auto& [type, counts] : by_type)
    text += fmt::format("  {}: {} tensors, {} elements\n", type, counts.first, counts.second);
  return text;
}

// Metadata are a stranger's. Those of an export are longer than what `printable` lets through at once.
std::string whole_printable(std::string_view text) {
  constexpr size_t kPiece = 100, kMost = 4000;
  std::string result;
  for (size_t begin = 0; begin < std::min(text.size(), kMost);) {
    size_t end = std::min(begin + kPiece, text.size());
    while (end < text.size() && end > begin + 1 && (text[end] & 0xC0) == 0x80) --end;  // inside a character
    result += printable(text.substr(begin, end - begin));
    begin = end;
  }
  return text.size() > kMost ? result + " ..." : result;
}

std::string metadata(const SafetensorsSet& set) {
  std::string text;
  for (const auto& [key, value] : set.metadata())
    text += fmt::format("  {} = {}\n", printable(key), whole_printable(value));
  return text;
}

std::string model_name(const model::WanConfig& config) {
  const auto same_sizes = [&](const model::WanConfig& known) {
    return config.width() == known.width() && config.ffn == known.ffn && config.layers == known.layers &&
           config.channels == known.channels && config.text_dim == known.text_dim;
  };
  if (same_sizes(model::WanConfig::wan_1_3b())) return "Wan2.1 T2V 1.3B";
  if (same_sizes(model::WanConfig::wan_14b())) return "Wan2.1 T2V 14B";
  return "Wan transformer of another size";
}

// "complete", or what load_weights would refuse.
std::string completeness(const model::WanWeights& weights, const std::vector<sharding::UnitSpec>& units) {
  try {
    model::check_weights(weights.files, "model", units,
                         [&](const std::string& name) { return weights.spelling.of(name); });
  } catch (const Error& e) {
    return fmt::format("  INCOMPLETE, or not readable: {}\n", e.what());
  }
  return "  complete: every tensor is there in its shape\n";
}

std::string describe_wan(const fs::path& path) {
  const model::WanWeights weights = model::open_wan_weights(path);
  const auto info = from_metadata(weights.files.metadata(), weights.config, weights.files.path());
  const bool has_head = info && info->has_flow_head();
  const model::WanConfig& c = weights.config;
  std::string text = fmt::format("{}: {}{}\n", weights.files.path().string(),
                                 has_head                     ? "TMD student, "
                                 : info && info->is_student() ? "DMD2-v student, "
                                                              : "",
                                 model_name(c));
  text += fmt::format(
      "  {} naming{}, {:.3f} G parameters\n", name(weights.spelling.naming),
      weights.spelling.prefix.empty() ? "" : fmt::format(" behind \"{}\"", weights.spelling.prefix),
      static_cast<double>(weights.parameters()) / 1e9);
  text += fmt::format(
      "  {} blocks, width {} = {} heads x {}, FFN {}, {} latent channels, text {} x {}; sizes from {}\n",
      c.layers, c.width(), c.heads, c.head_dim, c.ffn, c.channels, c.text_length, c.text_dim,
      weights.config_file.empty()
          ? (weights.heads_known ? "shapes and metadata" : "shapes, heads as in the published models")
          : "shapes and " + weights.config_file.filename().string());
  text += files_and_types(weights.files);
  text += completeness(weights, has_head ? model::tmd_student_units(info->student) : model::wan_units(c));
  return text + metadata(weights.files);
}

bool is_wan(const SafetensorsSet& set) {
  for (const auto& [name, tensor] : set.tensors()) {
    if (model::recognise_spelling(name)) return true;
  }
  return false;
}

std::string kind_of(const SafetensorsSet& set) {
  const bool is_vae = set.find("conv2.weight") != nullptr || set.find("post_quant_conv.weight") != nullptr;
  if (is_vae && set.path().extension() == ".json")
    return "a VAE behind an index; what reads a VAE takes one file: name that";
  if (is_vae) {
    try {
      const auto vae = model::WanVae::load(SafetensorsFile(set.path()), at::kFloat);
      return fmt::format("Wan2.1 VAE of base width {}", vae.base_width());
    } catch (const Error& e) {
      return fmt::format("a VAE, but not that of Wan2.1: {}", e.what());
    }
  }
  if (set.find("decoder.1.weight") && set.find("decoder.22.weight")) return "TAEW2.1";
  return fmt::format("safetensors, {} tensors", set.tensors().size());
}

}  // namespace

bool is_weights(const fs::path& path) {
  if (!fs::is_directory(path)) {
    const std::string name = path.filename().string();
    return name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
  }
  // Whether one is meant is for find_weights to say: it names all that are there.
  for (const fs::path& entry : list_folder(path)) {
    const std::string name = entry.filename().string();
    if (fs::is_directory(entry) ? name == "transformer" : is_weights(entry)) return true;
  }
  return false;
}

std::string describe_weights(const fs::path& path) {
  const fs::path file = model::find_weights(path);
  const SafetensorsSet set(file);
  if (is_wan(set)) return describe_wan(file);
  return fmt::format("{}: {}\n", file.string(), kind_of(set)) + files_and_types(set) + metadata(set);
}

}  // namespace tmd::orchestrator
