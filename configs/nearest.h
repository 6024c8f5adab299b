#pragma once

#include <span>
#include <string>
#include <string_view>

namespace tmd::configs {

/// Insertions, removals and replacements of one character that turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate that a user who typed `name` most probably meant, where names have the form "section.key":
/// few edits in the whole, or few edits in the key with another section or none. Empty without candidates.
std::string nearest_name(std::string_view name, std::span<const std::string> candidates);

}  // namespace tmd::configs
