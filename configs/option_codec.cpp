#include "configs/option_codec.h"

#include <charconv>
#include <cmath>
#include <stdexcept>

#include <spdlog/fmt/fmt.h>

namespace tmd::configs {
namespace {

constexpr std::string_view kBlanks = " \t\r";

std::string_view trimmed(std::string_view text) {
  size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

template <class Number>
Number parse_number(std::string_view text) {
  Number value{};
  bool has_plus = text.starts_with('+') && !text.starts_with("+-");  // from_chars takes no plus sign
  std::string_view digits = has_plus ? text.substr(1) : text;
  auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (failure != std::errc{} || end != digits.data() + digits.size())
    throw std::invalid_argument("not a number");
  return value;
}

}  // namespace

int64_t OptionCodec<int64_t>::parse(std::string_view text) { return parse_number<int64_t>(text); }
std::string OptionCodec<int64_t>::print(int64_t value) { return fmt::format("{}", value); }

int OptionCodec<int>::parse(std::string_view text) { return parse_number<int>(text); }
std::string OptionCodec<int>::print(int value) { return fmt::format("{}", value); }

uint64_t OptionCodec<uint64_t>::parse(std::string_view text) { return parse_number<uint64_t>(text); }
std::string OptionCodec<uint64_t>::print(uint64_t value) { return fmt::format("{}", value); }

double OptionCodec<double>::parse(std::string_view text) {
  double value = parse_number<double>(text);
  if (!std::isfinite(value)) throw std::invalid_argument("not finite");
  return value;
}
std::string OptionCodec<double>::print(double value) { return fmt::format("{}", value); }

bool OptionCodec<bool>::parse(std::string_view text) {
  for (std::string_view yes : {"true", "yes", "on", "1"}) {
    if (text == yes) return true;
  }
  for (std::string_view no : {"false", "no", "off", "0"}) {
    if (text == no) return false;
  }
  throw std::invalid_argument("neither true nor false");
}
std::string OptionCodec<bool>::print(bool value) { return value ? "true" : "false"; }

std::string OptionCodec<std::string>::parse(std::string_view text) {
  if (text.find_first_of("\n#") != std::string_view::npos) throw std::invalid_argument("line break or '#'");
  return std::string(trimmed(text));
}
std::string OptionCodec<std::string>::print(const std::string& value) { return value; }

std::vector<std::string_view> split_list(std::string_view text) {
  std::vector<std::string_view> parts;
  if (trimmed(text).empty()) return parts;
  while (true) {
    size_t comma = text.find(',');
    std::string_view part = trimmed(text.substr(0, comma));
    if (part.empty()) throw std::invalid_argument("an empty part in a list");
    parts.push_back(part);
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace tmd::configs
