#include "base/strict_json.h"

#include <set>
#include <span>
#include <vector>

#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/file.h"
#include "base/printable.h"

namespace tmd {
namespace {

using Json = nlohmann::json;

constexpr int kDeepest = 64;
constexpr size_t kMost = 5'000'000;

[[noreturn]] void refuse(const std::string& where, const std::string& reason) {
  throw Error(ErrorKind::kData, where + reason, "it is damaged, or was not written by the usual tools");
}

// What the parser says, without its number for the kind of error and without the text that it has read.
std::string reason_of(const Json::exception& error) {
  std::string_view text = error.what();
  if (const size_t end = text.find("] "); text.starts_with('[') && end != std::string_view::npos)
    text.remove_prefix(end + 2);
  return printable(text.substr(0, text.find("; last read")));
}

/// Sees everything that the parser finds.
class Watch {
 public:
  explicit Watch(const std::string& where) : where_(where) {}

  void see(int depth, Json::parse_event_t event, const Json& value) {
    using Event = Json::parse_event_t;
    if ((event == Event::object_start || event == Event::array_start) && depth >= kDeepest)
      refuse(where_, fmt::format(" is nested deeper than {} levels", kDeepest));
    if ((event == Event::value || event == Event::key) && ++count_ > kMost)
      refuse(where_, fmt::format(" holds more than {} values and names", kMost));
    if (event == Event::object_start) names_.emplace_back();
    if (event == Event::object_end) names_.pop_back();
    if (event == Event::key && !names_.back().insert(value.get<std::string>()).second)
      refuse(where_, fmt::format(": the name \"{}\" stands twice", printable(value.get<std::string>())));
  }

 private:
  const std::string& where_;
  std::vector<std::set<std::string>> names_;  // of each object that is open
  size_t count_ = 0;
};

}  // namespace

nlohmann::json parse_strict_json(std::string_view text, const std::string& where) {
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos)
    refuse(where, fmt::format(" is not JSON at byte {}: a zero byte", zero));
  Watch watch(where);
  try {
    return Json::parse(text, [&](int depth, Json::parse_event_t event, const Json& value) {
      watch.see(depth, event, value);
      return true;
    });
  } catch (const Json::parse_error& error) {
    refuse(where,
           fmt::format(" is not JSON at byte {}: {}", error.byte > 0 ? error.byte - 1 : 0, reason_of(error)));
  } catch (const Json::exception& error) {
    refuse(where, " is not JSON: " + reason_of(error));
  }
}

nlohmann::json read_strict_json(const std::filesystem::path& path, uint64_t largest_bytes) {
  const File file = File::open_to_read(path);
  const uint64_t size = file.size_bytes();
  if (size > largest_bytes)
    refuse(path.string(), fmt::format(": it has {} bytes; {} are allowed", size, largest_bytes));
  std::string text(size, '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return parse_strict_json(text, path.string());
}

}  // namespace tmd
