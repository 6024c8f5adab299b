#include "base/strict_json.h"

#include <set>
#include <vector>

#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"

namespace tmd {

nlohmann::json parse_strict_json(std::string_view text, const std::string& where) {
  using Json = nlohmann::json;
  std::vector<std::set<std::string>> names;
  auto watch = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) names.emplace_back();
    if (event == Json::parse_event_t::object_end) names.pop_back();
    if (event == Json::parse_event_t::key && !names.back().insert(value.get<std::string>()).second) {
      throw Error(ErrorKind::kData,
                  fmt::format("{}: the name \"{}\" stands twice", where, value.get<std::string>()));
    }
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const Json::exception& error) {
    throw Error(ErrorKind::kData, fmt::format("{} is not JSON: {}", where, error.what()));
  }
}

}  // namespace tmd
