#include "orchestrator/load_config.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>

#include "base/error.h"
#include "model/wan_weights.h"

namespace tmd::orchestrator {
namespace {

constexpr const char* kSizes[] = {"model.heads",       "model.head_dim", "model.ffn",
                                  "model.layers",      "model.channels", "model.text_dim",
                                  "model.text_length", "model.freq_dim", "model.epsilon"};

// Sizes that a weights file knows need not be set; those that are set must be the file's. A run's own
// config.ini sets all of them: nothing is read then, so that a run outlives the weights it started from; a
// run that does start from them compares when it loads them.
void take_sizes_from_weights(LoadedConfig& loaded) {
  configs::OptionTable& table = *loaded.table;
  const std::string& path = loaded.config.model.weights;
  if (path.empty() || loaded.config.model.kind != model::ModelKind::kWan) return;
  const bool all_set = std::ranges::all_of(kSizes, [&](const char* size) { return table.is_set(size); });
  if (all_set || !std::filesystem::exists(path)) return;  // what is missing is said when it is loaded
  const model::WanWeights weights = model::open_wan_weights(path);
  const model::WanConfig& wan = weights.config;
  std::vector<std::pair<std::string, int64_t>> sizes = {{"model.ffn", wan.ffn},
                                                        {"model.layers", wan.layers},
                                                        {"model.channels", wan.channels},
                                                        {"model.text_dim", wan.text_dim},
                                                        {"model.freq_dim", wan.freq_dim}};
  const bool heads_are_set = table.is_set("model.heads") || table.is_set("model.head_dim");
  if (weights.heads_known || !heads_are_set) {
    sizes.emplace_back("model.heads", wan.heads);
    sizes.emplace_back("model.head_dim", wan.head_dim);
  }
  if (!table.is_set("model.text_length")) sizes.emplace_back("model.text_length", wan.text_length);
  for (const auto& [name, size] : sizes) {
    const std::string text = std::to_string(size);
    check(!table.is_set(name) || table.value(name) == text, ErrorKind::kConfig,
          fmt::format("{} = {}, but {} has {}", name, table.value(name), path, text),
          "leave the sizes out: they are taken from the weights");
    table.assign(name, text, path);
  }
  const int64_t width = loaded.config.model.wan.width();
  check(width == wan.width(), ErrorKind::kConfig,
        fmt::format("model.heads x model.head_dim = {}, but {} is {} wide", width, path, wan.width()));
  const double epsilon = loaded.config.model.wan.epsilon;
  check(!table.is_set("model.epsilon") || !weights.epsilon_known || epsilon == wan.epsilon,
        ErrorKind::kConfig, fmt::format("model.epsilon = {}, but {} says {}", epsilon, path, wan.epsilon),
        "leave the sizes out: they are taken from the weights");
  if (!table.is_set("model.epsilon")) table.assign("model.epsilon", fmt::format("{}", wan.epsilon), path);
}

}  // namespace

ConfigFiles take_config_files(const std::vector<std::string>& words) {
  ConfigFiles result;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i].rfind("--config=", 0) == 0) {
      result.files.push_back(words[i].substr(9));
    } else if (words[i] == "--config") {
      check(i + 1 < words.size() && words[i + 1][0] != '-', ErrorKind::kUsage, "--config needs a file");
      while (i + 1 < words.size() && words[i + 1][0] != '-') result.files.push_back(words[++i]);
    } else {
      result.rest.push_back(words[i]);
    }
  }
  return result;
}

std::unique_ptr<LoadedConfig> load_config(const std::vector<std::string>& files,
                                          const std::vector<std::string>& words) {
  auto loaded = std::make_unique<LoadedConfig>();
  loaded->table = configs::declare_options(loaded->config);
  loaded->table->parse_files(std::vector<std::filesystem::path>(files.begin(), files.end()));
  loaded->other_words = loaded->table->parse_command_line(words);
  take_sizes_from_weights(*loaded);
  configs::complete(loaded->config);
  return loaded;
}

}  // namespace tmd::orchestrator
