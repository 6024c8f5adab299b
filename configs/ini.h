#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace tmd::configs {

/// One setting of a file or of the command line, before anybody has looked at what it means.
struct Setting {
  std::string name;  ///< "section.key"; without a dot when it stands before the first section
  std::string value;
};

/// The settings of an INI file, in order: `[section]`, `key = value`, comments from '#' to the end of line.
/// Throws kConfig that names the file when it cannot be read, has a line of another form, or sets a key
/// twice. Names and values are not looked at.
std::vector<Setting> read_ini(const std::filesystem::path& file);

}  // namespace tmd::configs
