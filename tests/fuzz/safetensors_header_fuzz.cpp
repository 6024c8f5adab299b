// Input: one byte, the number of bytes of data in the file, then the header.

#include <algorithm>
#include <set>

#include "base/safetensors.h"
#include "target.h"

namespace {

using namespace tmd;

constexpr int64_t kMostBits = 8 * 255;

void check_entries(const SafetensorsHeader& header, uint64_t data_bytes) {
  uint64_t expected = 0;
  std::set<std::string> names;
  for (const SafetensorsEntry& entry : header.entries) {
    fuzz::require(entry.begin == expected && entry.end >= entry.begin, "tensors follow each other");
    fuzz::require(names.insert(entry.name).second, "names are unique");
    const auto bits = safetensors_bits(entry.dtype);
    fuzz::require(bits.has_value(), "the dtype is known");
    const bool is_empty = std::ranges::count(entry.shape, 0) > 0;
    uint64_t size = is_empty ? 0 : *bits;
    for (const int64_t extent : entry.shape) {
      fuzz::require(extent >= 0, "no extent is negative");
      fuzz::require(is_empty || extent <= kMostBits, "no extent is larger than the data");
      size *= static_cast<uint64_t>(extent);
      fuzz::require(size <= uint64_t{kMostBits}, "no tensor is larger than the data");
    }
    fuzz::require(size == 8 * entry.size_bytes(), "bytes fit the shape");
    expected = entry.end;
  }
  fuzz::require(expected == data_bytes, "the tensors are the whole data");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const uint64_t data_bytes = data[0];
  const std::string file = "folder/model.safetensors";
  const std::string_view text = fuzz::text_of(data + 1, size - 1);
  SafetensorsHeader header;
  if (fuzz::accepted(file, [&] { header = parse_safetensors_header(text, data_bytes, file); })) {
    fuzz::require(text.find('\0') == std::string_view::npos, "the header is JSON to its end");
    check_entries(header, data_bytes);
  }
  return 0;
}
