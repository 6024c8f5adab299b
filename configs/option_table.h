#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "configs/ini.h"
#include "configs/option.h"

namespace tmd::configs {

/// An experiment key that has another value in another run.
struct OptionDifference {
  std::string name;    ///< "section.key"
  std::string theirs;  ///< in the file
  std::string ours;    ///< in this table
  bool operator==(const OptionDifference&) const = default;
};

/// The one place that declares every option of the program: name, variable, help, legal values. Files,
/// command line, help text, the resolved copy in the run folder and the experiment hash all come from it.
///
///     OptionTable table;
///     OptionTable::Section train = table.section("train", "How the networks are trained");
///     train.add("global_batch", &config.train.global_batch, "samples per iteration over all ranks").min(1)
///         .experiment();
///     train.add("precision", &config.train.precision,
///               {{"fp32", Precision::kFp32}, {"fp64", Precision::kFp64}},
///               "type of parameters, gradients and compute");
///
/// Variables must outlive the table; what they hold when declared is the default.
/// Errors: kConfig that names option, value, legal values and source (file or command line); kInternal for a
/// name declared twice.
class OptionTable {
 public:
  /// Valid as long as the table, and so are the options that it adds.
  class Section {
   public:
    /// T is int, int64_t, uint64_t, double, bool, std::string or a std::vector of one of them.
    template <class T>
    Option& add(const std::string& key, T* target, const std::string& help) {
      return table_->add(Option(name_, key, help, bind_option(target)));
    }
    template <class Enum>
    Option& add(const std::string& key, Enum* target, std::vector<std::pair<std::string, Enum>> values,
                const std::string& help) {
      return table_->add(Option(name_, key, help, bind_option(target, std::move(values))));
    }

   private:
    friend class OptionTable;
    Section(OptionTable* table, std::string name) : table_(table), name_(std::move(name)) {}
    OptionTable* table_;
    std::string name_;
  };

  OptionTable() = default;
  OptionTable(const OptionTable&) = delete;
  OptionTable& operator=(const OptionTable&) = delete;

  /// Begins a section, or continues it; sections are listed in the order in which they began. `help` is the
  /// heading of the first call.
  Section section(const std::string& name, const std::string& help = {});

  /// Reads INI files in order; a later file wins. An unknown key is an error that offers the nearest name.
  /// Throws as read_ini too; what stood before the error is assigned.
  void parse_files(std::span<const std::filesystem::path> files);

  /// Takes `--section.key=value` and `--section.key value` out of `arguments` (without the program's name);
  /// the last one wins. Returns the other arguments in their order, for the verb to parse. An unknown name
  /// with a dot is an error like an unknown key of a file; a missing value is kUsage.
  std::vector<std::string> parse_command_line(const std::vector<std::string>& arguments);

  /// Throws kConfig unless every variable holds a legal value; for tables whose variables were set otherwise.
  void check_values() const;

  /// The present value of "section.key" as text. Throws kConfig for an unknown name.
  std::string value(const std::string& name) const;

  /// Whether a file or the command line has set it. Throws as value.
  bool is_set(const std::string& name) const;

  /// Sets one option; `source` is for messages. Throws kConfig for an unknown name or an illegal value.
  void assign(const std::string& name, const std::string& text, const std::string& source);

  /// Every option with its default, legal values and help sentence, by sections.
  std::string help() const;

  /// An INI file that sets every option to its present value, with the help sentences as comments.
  std::string resolved_ini() const;

  /// XXH3-64 of the lines "section.key=value" of all experiment keys, sorted by name.
  uint64_t experiment_hash() const;

  /// Compares with a file that `resolved_ini` wrote for an earlier run. A key that the file lacks (it is
  /// older than the option) counts as the default; a key that this table lacks is a difference. Sorted by
  /// name. Throws kConfig as read_ini, and for an experiment value of the file that is not legal.
  std::vector<OptionDifference> experiment_differences(const std::filesystem::path& resolved) const;

 private:
  struct Heading {
    std::string name;
    std::string help;
  };

  Option& add(Option option);
  const Option* find(const std::string& name) const;
  Option& at(const std::string& name, const std::string& source);
  std::vector<const Option*> options_of(const std::string& section) const;

  std::vector<Heading> headings_;
  std::deque<Option> options_;  // a deque, because `add` hands out references
};

}  // namespace tmd::configs
