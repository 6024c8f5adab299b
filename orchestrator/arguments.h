#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

namespace tmd::orchestrator {

/// The words of a verb's command line that are not options of the configuration: `--name value`,
/// `--name=value` and plain words.
class Arguments {
 public:
  /// `verb` is for messages. `names`: the options that take one value; `switches`: those that take none;
  /// `lists`: those that may be followed by several words. Throws kUsage for any other word that starts with
  /// "--" and for a missing value.
  Arguments(const std::string& verb, const std::vector<std::string>& words,
            const std::set<std::string>& names, const std::set<std::string>& switches = {},
            const std::set<std::string>& lists = {});

  bool has(const std::string& name) const { return values_.contains(name); }
  /// The last value of `name`, which is no switch; throws kUsage when it is missing.
  const std::string& required(const std::string& name) const;
  std::string value_or(const std::string& name, const std::string& otherwise) const;
  /// Throws kUsage when the value is no integer.
  int64_t integer_or(const std::string& name, int64_t otherwise) const;
  /// All values of an option that may be repeated or followed by several words; none when it is missing.
  std::vector<std::string> all(const std::string& name) const;
  const std::vector<std::string>& plain() const { return plain_; }
  /// For verbs without plain words: throws kUsage when there are any.
  void refuse_plain() const;

 private:
  std::string verb_;
  std::map<std::string, std::vector<std::string>> values_;
  std::vector<std::string> plain_;
};

}  // namespace tmd::orchestrator
