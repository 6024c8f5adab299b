#include "base/printable.h"

#include <algorithm>

#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

namespace tmd {
namespace {

constexpr size_t kMostBytes = 200;
constexpr size_t kMostNumbers = 16;

bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

}  // namespace

std::string printable(std::string_view text) {
  size_t end = std::min(text.size(), kMostBytes);
  while (end > 0 && end < text.size() && continues_character(text[end])) --end;
  std::string result;
  for (const char byte : text.substr(0, end)) {
    const auto code = static_cast<unsigned char>(byte);
    if (code < 0x20 || code == 0x7f) {
      result += fmt::format("\\x{:02x}", code);
    } else {
      result += byte;
    }
  }
  return end < text.size() ? result + "..." : result;
}

std::string printable(std::span<const uint64_t> numbers) {
  const std::string text =
      fmt::format("{}", fmt::join(numbers.first(std::min(numbers.size(), kMostNumbers)), ", "));
  return numbers.size() > kMostNumbers ? text + ", ..." : text;
}

}  // namespace tmd
