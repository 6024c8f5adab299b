#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace tmd::configs {

/// How one type of option is written in a file or on the command line. `parse` takes the whole of `text` or
/// throws std::invalid_argument; `print` gives the shortest text that `parse` turns into the same value, so
/// that equal values have equal texts.
template <class T>
struct OptionCodec;

template <>
struct OptionCodec<int64_t> {
  static constexpr const char* kTypeName = "integer";
  static int64_t parse(std::string_view text);
  static std::string print(int64_t value);
};

template <>
struct OptionCodec<int> {
  static constexpr const char* kTypeName = "integer";
  static int parse(std::string_view text);
  static std::string print(int value);
};

template <>
struct OptionCodec<uint64_t> {
  static constexpr const char* kTypeName = "integer from 0";
  static uint64_t parse(std::string_view text);
  static std::string print(uint64_t value);
};

/// Finite numbers only.
template <>
struct OptionCodec<double> {
  static constexpr const char* kTypeName = "number";
  static double parse(std::string_view text);
  static std::string print(double value);
};

template <>
struct OptionCodec<bool> {
  static constexpr const char* kTypeName = "true or false";
  static bool parse(std::string_view text);
  static std::string print(bool value);
};

/// Everything that a line of a file can hold: no line break, no '#' (it begins a comment), no blanks around.
template <>
struct OptionCodec<std::string> {
  static constexpr const char* kTypeName = "text";
  static std::string parse(std::string_view text);
  static std::string print(const std::string& value);
};

/// The parts of "a, b, c" without the blanks around them; nothing for an empty text. Throws
/// std::invalid_argument for an empty part.
std::vector<std::string_view> split_list(std::string_view text);

/// Comma-separated.
template <class T>
struct OptionCodec<std::vector<T>> {
  static std::vector<T> parse(std::string_view text) {
    std::vector<T> values;
    for (std::string_view part : split_list(text)) values.push_back(OptionCodec<T>::parse(part));
    return values;
  }
  static std::string print(const std::vector<T>& values) {
    std::string text;
    for (const T& value : values) {
      if (!text.empty()) text += ", ";
      text += OptionCodec<T>::print(value);
    }
    return text;
  }
};

template <class T>
struct IsList : std::false_type {};
template <class T>
struct IsList<std::vector<T>> : std::true_type {
  using Element = T;
};

}  // namespace tmd::configs
