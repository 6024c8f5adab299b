#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace tmd {

/// Parses JSON that must be correct and unambiguous. Throws kData "`where`: ..." for broken JSON and for a
/// name that stands twice in one object, of which the parser alone would keep the last.
nlohmann::json parse_strict_json(std::string_view text, const std::string& where);

}  // namespace tmd
