#include "orchestrator/load_config.h"

#include <filesystem>

#include "base/error.h"

namespace tmd::orchestrator {

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
  configs::complete(loaded->config);
  return loaded;
}

}  // namespace tmd::orchestrator
