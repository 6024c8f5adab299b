#include "configs/option.h"

#include <algorithm>

#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"

namespace tmd::configs {

Option::Option(std::string section, std::string key, std::string help, OptionBinding binding)
    : section_(std::move(section)),
      key_(std::move(key)),
      help_(std::move(help)),
      binding_(std::move(binding)),
      default_text_(binding_.text()) {}

Option& Option::min(double least) {
  least_ = least;
  least_is_open_ = false;
  return *this;
}

Option& Option::max(double most) {
  most_ = most;
  most_is_open_ = false;
  return *this;
}

Option& Option::above(double bound) {
  least_ = bound;
  least_is_open_ = true;
  return *this;
}

Option& Option::below(double bound) {
  most_ = bound;
  most_is_open_ = true;
  return *this;
}

Option& Option::one_of(std::vector<std::string> names) {
  binding_.names = std::move(names);
  return *this;
}

Option& Option::experiment() {
  is_experiment_ = true;
  return *this;
}

std::string Option::legal() const {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::string names = fmt::format("{}", fmt::join(binding_.names, ", "));
  if (!binding_.names.empty()) return (binding_.is_list ? "comma-separated list out of " : "one of ") + names;
  std::string legal = binding_.type_name;
  if (least_ > -kInfinity) legal += fmt::format(", {} {}", least_is_open_ ? "above" : "at least", least_);
  if (most_ < kInfinity) legal += fmt::format(", {} {}", most_is_open_ ? "below" : "at most", most_);
  return legal;
}

bool Option::is_in_range(double value) const {
  bool is_large_enough = least_is_open_ ? value > least_ : value >= least_;
  bool is_small_enough = most_is_open_ ? value < most_ : value <= most_;
  return is_large_enough && is_small_enough;
}

bool Option::is_legal_part(const std::string& part) const {
  if (binding_.is_number && !is_in_range(OptionCodec<double>::parse(part))) return false;
  return binding_.names.empty() || std::ranges::find(binding_.names, part) != binding_.names.end();
}

std::string Option::normalised(const std::string& text, const std::string& source) const {
  try {
    std::vector<std::string> parts = binding_.parts(text);
    if (std::ranges::all_of(parts, [this](const std::string& part) { return is_legal_part(part); })) {
      return fmt::format("{}", fmt::join(parts, ", "));
    }
  } catch (const std::invalid_argument&) {
    // a text of another type gets the message of any other illegal value
  }
  throw Error(ErrorKind::kConfig,
              fmt::format("{}: {} = \"{}\" is not legal; legal is: {}", source, name(), text, legal()),
              fmt::format("{}: {}", name(), help_));
}

void Option::assign(const std::string& text, const std::string& source) {
  binding_.assign(normalised(text, source));
  is_set_ = true;
}

}  // namespace tmd::configs
