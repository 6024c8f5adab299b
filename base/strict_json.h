#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace tmd {

/// Parses JSON that must be correct and unambiguous and may come from anybody. Throws kData "`where` ..." for
/// broken JSON (with the offset of the byte where it breaks), also for a zero byte anywhere, which the parser
/// alone would take for the end; for a name that stands twice in one object, of which it would keep the last;
/// for more than 64 levels and for more than 5,000,000 values and names, so that memory stays within bounds.
nlohmann::json parse_strict_json(std::string_view text, const std::string& where);

/// The same of a file, and kData when it has more than `largest_bytes`; kIo.
nlohmann::json read_strict_json(const std::filesystem::path& file, uint64_t largest_bytes);

}  // namespace tmd
