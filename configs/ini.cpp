#include "configs/ini.h"

#include <fstream>
#include <set>

#include <boost/program_options.hpp>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"

namespace tmd::configs {
namespace po = boost::program_options;

std::vector<Setting> read_ini(const std::filesystem::path& file) {
  std::ifstream stream(file);
  check(stream.good() && !std::filesystem::is_directory(file), ErrorKind::kConfig,
        fmt::format("cannot read the config file {}", file.string()));
  std::vector<Setting> settings;
  std::set<std::string> names;
  try {
    // Nothing is registered here: what is known is the option table's business, and it knows near misses.
    for (const po::option& option : po::parse_config_file(stream, po::options_description(), true).options) {
      check(names.insert(option.string_key).second, ErrorKind::kConfig,
            fmt::format("{}: {} stands twice", file.string(), option.string_key));
      settings.push_back({option.string_key, option.value.at(0)});
    }
  } catch (const po::error& error) {
    throw Error(ErrorKind::kConfig, fmt::format("{}: {}", file.string(), error.what()),
                "a config file has lines of the form [section], key = value and # comment");
  }
  return settings;
}

}  // namespace tmd::configs
