#include "configs/option_table.h"

#include <algorithm>

#include <boost/program_options.hpp>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/hash.h"
#include "configs/nearest.h"

namespace tmd::configs {
namespace po = boost::program_options;
namespace {

constexpr const char* kCommandLine = "command line";
constexpr size_t kTextColumns = 100;

/// `text` broken at blanks into lines of at most `columns` characters, each behind `indent`.
std::string wrapped(const std::string& text, const std::string& indent, size_t columns) {
  std::string lines;
  std::string line;
  auto flush = [&] {
    lines += indent + line + "\n";
    line.clear();
  };
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find(' ', begin), text.size());
    if (!line.empty() && indent.size() + line.size() + 1 + (end - begin) > columns) flush();
    if (!line.empty()) line += ' ';
    line += text.substr(begin, end - begin);
    begin = end + 1;
  }
  if (!line.empty()) flush();
  return lines;
}

std::string sentence(const Option& option) {
  return fmt::format("{} ({}{})", option.help(), option.legal(),
                     option.is_experiment() ? "; experiment" : "");
}

/// What Boost splits `--name=value` and `--name value` by: every name takes one value, nothing is guessed.
po::parsed_options split_arguments(const std::vector<std::string>& arguments,
                                   const po::options_description& known) {
  namespace style = po::command_line_style;
  return po::command_line_parser(arguments)
      .options(known)
      .style(style::allow_long | style::long_allow_adjacent | style::long_allow_next)
      .allow_unregistered()
      .run();
}

}  // namespace

OptionTable::Section OptionTable::section(const std::string& name, const std::string& help) {
  auto has_name = [&](const Heading& heading) { return heading.name == name; };
  if (std::ranges::none_of(headings_, has_name)) headings_.push_back({name, help});
  return Section(this, name);
}

Option& OptionTable::add(Option option) {
  ensure(find(option.name()) == nullptr, "the option " + option.name() + " is declared twice");
  return options_.emplace_back(std::move(option));
}

const Option* OptionTable::find(const std::string& name) const {
  auto found = std::ranges::find_if(options_, [&](const Option& option) { return option.name() == name; });
  return found == options_.end() ? nullptr : &*found;
}

Option& OptionTable::at(const std::string& name, const std::string& source) {
  auto found = std::ranges::find_if(options_, [&](const Option& option) { return option.name() == name; });
  if (found != options_.end()) return *found;
  std::vector<std::string> names;
  for (const Option& option : options_) names.push_back(option.name());
  std::string nearest = nearest_name(name, names);
  throw Error(ErrorKind::kConfig, fmt::format("{}: unknown option {}", source, name),
              nearest.empty() ? "" : fmt::format("did you mean {}?", nearest));
}

std::vector<const Option*> OptionTable::options_of(const std::string& section) const {
  std::vector<const Option*> options;
  for (const Option& option : options_) {
    if (option.section() == section) options.push_back(&option);
  }
  return options;
}

void OptionTable::parse_files(std::span<const std::filesystem::path> files) {
  for (const std::filesystem::path& file : files) {
    for (const Setting& setting : read_ini(file)) {
      at(setting.name, file.string()).assign(setting.value, file.string());
    }
  }
}

std::vector<std::string> OptionTable::parse_command_line(const std::vector<std::string>& arguments) {
  po::options_description known;
  for (const Option& option : options_) {
    known.add_options()(option.name().c_str(), po::value<std::string>());
  }
  try {
    po::parsed_options parsed = split_arguments(arguments, known);
    for (const po::option& option : parsed.options) {
      bool is_ours = option.position_key == -1 && option.string_key.find('.') != std::string::npos;
      if (!is_ours) continue;
      Option& row = at(option.string_key, kCommandLine);
      row.assign(option.value.at(0), kCommandLine);
    }
    return po::collect_unrecognized(parsed.options, po::include_positional);
  } catch (const po::error& error) {
    throw Error(ErrorKind::kUsage, fmt::format("{}: {}", kCommandLine, error.what()),
                "options are written --section.key=value");
  }
}

void OptionTable::check_values() const {
  for (const Option& option : options_) option.normalised(option.text(), "present value");
}

bool OptionTable::is_set(const std::string& name) const {
  const Option* option = find(name);
  check(option != nullptr, ErrorKind::kConfig, fmt::format("there is no option {}", name));
  return option->is_set();
}

void OptionTable::assign(const std::string& name, const std::string& text, const std::string& source) {
  at(name, source).assign(text, source);
}

std::string OptionTable::value(const std::string& name) const {
  const Option* option = find(name);
  check(option != nullptr, ErrorKind::kConfig, fmt::format("there is no option {}", name));
  return option->text();
}

std::string OptionTable::help() const {
  std::string text;
  for (const Heading& heading : headings_) {
    text += fmt::format("{}[{}]{}{}\n", text.empty() ? "" : "\n", heading.name,
                        heading.help.empty() ? "" : " ", heading.help);
    for (const Option* option : options_of(heading.name)) {
      text += fmt::format("  --{}={}\n", option->name(), option->default_text());
      text += wrapped(sentence(*option), "      ", kTextColumns);
    }
  }
  return text;
}

std::string OptionTable::resolved_ini() const {
  std::string text;
  for (const Heading& heading : headings_) {
    if (!heading.help.empty()) text += wrapped(heading.help, "# ", kTextColumns);
    text += fmt::format("[{}]\n", heading.name);
    for (const Option* option : options_of(heading.name)) {
      text += wrapped(sentence(*option), "# ", kTextColumns);
      text += fmt::format("{} = {}\n", option->key(), option->text());
    }
    text += "\n";
  }
  return text;
}

uint64_t OptionTable::experiment_hash() const {
  std::vector<std::string> lines;
  for (const Option& option : options_) {
    if (option.is_experiment()) lines.push_back(fmt::format("{}={}\n", option.name(), option.text()));
  }
  std::ranges::sort(lines);
  std::string text;
  for (const std::string& line : lines) text += line;
  return xxh3_64(std::as_bytes(std::span(text)));
}

std::vector<OptionDifference> OptionTable::experiment_differences(
    const std::filesystem::path& resolved) const {
  std::vector<OptionDifference> differences;
  std::vector<Setting> settings = read_ini(resolved);
  for (const Option& option : options_) {
    if (!option.is_experiment()) continue;
    auto setting = std::ranges::find(settings, option.name(), &Setting::name);
    bool is_older = setting == settings.end();
    std::string theirs =
        is_older ? option.default_text() : option.normalised(setting->value, resolved.string());
    if (theirs != option.text()) differences.push_back({option.name(), theirs, option.text()});
  }
  for (const Setting& setting : settings) {
    if (find(setting.name) == nullptr)
      differences.push_back({setting.name, setting.value, "(no such option)"});
  }
  std::ranges::sort(differences, {}, &OptionDifference::name);
  return differences;
}

}  // namespace tmd::configs
