#include "orchestrator/arguments.h"

#include <charconv>

#include "base/error.h"

namespace tmd::orchestrator {

Arguments::Arguments(const std::string& verb, const std::vector<std::string>& words,
                     const std::set<std::string>& names, const std::set<std::string>& switches,
                     const std::set<std::string>& lists)
    : verb_(verb) {
  std::string open;  // the list that plain words belong to, for "--allow-change A B"
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.rfind("--", 0) != 0) {
      if (open.empty()) {
        plain_.push_back(word);
      } else {
        values_[open].push_back(word);
      }
      continue;
    }
    const size_t equals = word.find('=');
    const std::string name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
    const bool is_switch = switches.contains(name), is_list = lists.contains(name);
    check(is_switch || is_list || names.contains(name), ErrorKind::kUsage,
          "tmd " + verb_ + ": unknown option --" + name, "tmd " + verb_ + " --help lists the options");
    open.clear();
    if (is_switch) {
      values_[name];
    } else if (equals != std::string::npos) {
      values_[name].push_back(word.substr(equals + 1));
    } else {
      check(i + 1 < words.size(), ErrorKind::kUsage, "tmd " + verb_ + ": --" + name + " needs a value");
      values_[name].push_back(words[++i]);
      if (is_list) open = name;
    }
  }
}

void Arguments::refuse_plain() const {
  check(plain_.empty(), ErrorKind::kUsage,
        "tmd " + verb_ + ": unexpected word " + (plain_.empty() ? "" : plain_.front()),
        "tmd " + verb_ + " --help shows examples");
}

const std::string& Arguments::required(const std::string& name) const {
  const auto found = values_.find(name);
  check(found != values_.end(), ErrorKind::kUsage, "tmd " + verb_ + ": --" + name + " is missing",
        "tmd " + verb_ + " --help shows examples");
  return found->second.back();
}

std::string Arguments::value_or(const std::string& name, const std::string& otherwise) const {
  return has(name) ? values_.at(name).back() : otherwise;
}

int64_t Arguments::integer_or(const std::string& name, int64_t otherwise) const {
  if (!has(name)) return otherwise;
  const std::string& text = values_.at(name).back();
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  check(error == std::errc() && end == text.data() + text.size(), ErrorKind::kUsage,
        "tmd " + verb_ + ": --" + name + " is not an integer: " + text);
  return value;
}

std::vector<std::string> Arguments::all(const std::string& name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::vector<std::string>{} : found->second;
}

}  // namespace tmd::orchestrator
