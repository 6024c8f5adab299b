#pragma once

#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "configs/option_codec.h"

namespace tmd::configs {

/// The C++ variable behind an option, with its type erased. Texts are what stands after '='; every function
/// that takes one throws std::invalid_argument when it is not of the type.
struct OptionBinding {
  std::string type_name;
  bool is_number = false;
  bool is_list = false;
  std::vector<std::string> names;                                     ///< the only legal texts, for enums
  std::function<std::vector<std::string>(const std::string&)> parts;  ///< one text per element, normalised
  std::function<void(const std::string&)> assign;
  std::function<std::string()> text;  ///< of the present value
};

/// One row of the option table. The value that the variable has when the row is declared is the default.
/// Errors: kConfig that names option, value, legal values and source.
class Option {
 public:
  /// What `binding` points to must outlive the option.
  Option(std::string section, std::string key, std::string help, OptionBinding binding);

  /// Legal values; for lists they hold for every element.
  Option& min(double least);
  Option& max(double most);
  Option& above(double bound);
  Option& below(double bound);
  Option& one_of(std::vector<std::string> names);
  /// The value defines the experiment: it is part of the experiment hash, and a run may not change it.
  Option& experiment();

  const std::string& section() const { return section_; }
  const std::string& key() const { return key_; }
  /// "section.key"
  std::string name() const { return section_ + "." + key_; }
  const std::string& help() const { return help_; }
  bool is_experiment() const { return is_experiment_; }

  /// "integer, at least 1", "one of fp32, fp64"
  std::string legal() const;
  /// The present value. Throws std::logic_error for an enum value without a name.
  std::string text() const { return binding_.text(); }
  const std::string& default_text() const { return default_text_; }
  /// Whether a value was assigned, be it the default's.
  bool is_set() const { return is_set_; }

  /// `text` in its normal form; throws kConfig when it is not legal. `source` (a file, "command line") is for
  /// the message.
  std::string normalised(const std::string& text, const std::string& source) const;
  /// Sets the variable; throws as normalised, and then leaves it as it was.
  void assign(const std::string& text, const std::string& source);

 private:
  bool is_in_range(double value) const;
  bool is_legal_part(const std::string& part) const;

  std::string section_;
  std::string key_;
  std::string help_;
  OptionBinding binding_;
  std::string default_text_;
  double least_ = -std::numeric_limits<double>::infinity();
  double most_ = std::numeric_limits<double>::infinity();
  bool least_is_open_ = false;
  bool most_is_open_ = false;
  bool is_experiment_ = false;
  bool is_set_ = false;
};

/// Binds a variable of a type that has an OptionCodec. `target` must outlive the binding.
template <class T>
OptionBinding bind_option(T* target) {
  OptionBinding binding;
  if constexpr (IsList<T>::value) {
    using Element = typename IsList<T>::Element;
    binding.type_name = std::string("comma-separated list of ") + OptionCodec<Element>::kTypeName;
    binding.is_number = std::is_arithmetic_v<Element> && !std::is_same_v<Element, bool>;
    binding.is_list = true;
    binding.parts = [](const std::string& text) {
      std::vector<std::string> parts;
      for (const Element& value : OptionCodec<T>::parse(text))
        parts.push_back(OptionCodec<Element>::print(value));
      return parts;
    };
  } else {
    binding.type_name = OptionCodec<T>::kTypeName;
    binding.is_number = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;
    binding.parts = [](const std::string& text) {
      return std::vector<std::string>{OptionCodec<T>::print(OptionCodec<T>::parse(text))};
    };
  }
  binding.assign = [target](const std::string& text) { *target = OptionCodec<T>::parse(text); };
  binding.text = [target] { return OptionCodec<T>::print(*target); };
  return binding;
}

/// Binds an enum whose values are written by name. `target` must outlive the binding.
template <class Enum>
OptionBinding bind_option(Enum* target, std::vector<std::pair<std::string, Enum>> values) {
  OptionBinding binding;
  binding.type_name = "name";
  for (const auto& [name, value] : values) binding.names.push_back(name);
  auto find = [values](const std::string& text) {
    for (const auto& [name, value] : values) {
      if (name == text) return value;
    }
    throw std::invalid_argument("no such name");
  };
  binding.parts = [find](const std::string& text) {
    find(text);
    return std::vector<std::string>{text};
  };
  binding.assign = [target, find](const std::string& text) { *target = find(text); };
  binding.text = [target, values] {
    for (const auto& [name, value] : values) {
      if (value == *target) return name;
    }
    throw std::logic_error("an enum value without a name");
  };
  return binding;
}

}  // namespace tmd::configs
