#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace tmd {

/// Parses JSON that must be correct and unambiguous and may come from anybody. Throws kData "`where` ..." for
/// broken JSON (with the offset of the byte where it breaks), also for a zero byte anywhere, which the parser
/// alone would take for the end; for a name that stands twice in one object, of which it would keep the last;
/// for more than 64 levels and for more than 5,000,000 values and names, so that memory stays within bounds.
nlohmann::json parse_strict_json(std::string_view text, const std::string& where);

}  // namespace tmd
