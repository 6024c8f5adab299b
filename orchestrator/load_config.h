#pragma once

#include <memory>
#include <string>
#include <vector>

#include "configs/config.h"

namespace tmd::orchestrator {

/// A configuration with the table that was declared over it; both stay where they are.
struct LoadedConfig {
  configs::Config config;
  std::unique_ptr<configs::OptionTable> table;
  std::vector<std::string> other_words;  ///< words of the command line that are no configuration
};

/// Reads the files behind `--config`, then `--section.key=value` words, and completes the configuration
/// (configs::complete). With `[model] weights` the sizes of a Wan model come from there. Throws kConfig and
/// kUsage, and for the weights what model::open_wan_weights throws.
std::unique_ptr<LoadedConfig> load_config(const std::vector<std::string>& files,
                                          const std::vector<std::string>& words);

/// The files behind `--config` in `words`, and the words without them.
struct ConfigFiles {
  std::vector<std::string> files, rest;
};
/// Throws kUsage for `--config` without a file.
ConfigFiles take_config_files(const std::vector<std::string>& words);

}  // namespace tmd::orchestrator
