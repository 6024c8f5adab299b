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

/// Sees everything that the parser finds. (Its callbacks while it builds values would do too, but they cost
/// time with the square of an object's size.)
class Watch final : public nlohmann::json_sax<Json> {
 public:
  explicit Watch(const std::string& where) : where_(where) {}

  bool null() override { return count(); }
  bool boolean(bool) override { return count(); }
  bool number_integer(number_integer_t) override { return count(); }
  bool number_unsigned(number_unsigned_t) override { return count(); }
  bool number_float(number_float_t, const string_t&) override { return count(); }
  bool string(string_t&) override { return count(); }
  bool binary(binary_t&) override { return count(); }
  bool start_object(size_t) override {
    names_.emplace_back();
    return open();
  }
  bool key(string_t& name) override {
    if (!names_.back().insert(name).second)
      refuse(where_, fmt::format(": the name \"{}\" stands twice", printable(name)));
    return count();
  }
  bool end_object() override {
    names_.pop_back();
    return close();
  }
  bool start_array(size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    const auto* parse = dynamic_cast<const Json::parse_error*>(&error);
    if (!parse) refuse(where_, " is not JSON: " + reason_of(error));
    refuse(where_, fmt::format(" is not JSON at byte {}: {}", parse->byte > 0 ? parse->byte - 1 : 0,
                               reason_of(error)));
  }

 private:
  bool count() {
    if (++count_ > kMost) refuse(where_, fmt::format(" holds more than {} values and names", kMost));
    return true;
  }
  bool open() {
    if (++depth_ > kDeepest) refuse(where_, fmt::format(" is nested deeper than {} levels", kDeepest));
    return true;
  }
  bool close() {
    --depth_;
    return true;
  }

  const std::string& where_;
  std::vector<std::set<std::string>> names_;  // of each object that is open
  int depth_ = 0;
  size_t count_ = 0;
};

}  // namespace

nlohmann::json parse_strict_json(std::string_view text, const std::string& where) {
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos)
    refuse(where, fmt::format(" is not JSON at byte {}: a zero byte", zero));
  Watch watch(where);
  Json::sax_parse(text, &watch);
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {  // a number out of range
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
