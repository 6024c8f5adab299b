#include "base/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/printable.h"
#include "base/strict_json.h"

namespace tmd {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr uint64_t kPrefixBytes = 8;
constexpr uint64_t kLargestHeader = 100'000'000;
constexpr const char* kMetadataKey = "__metadata__";

[[noreturn]] void refuse(const std::string& file, const std::string& reason) {
  throw Error(ErrorKind::kData, fmt::format("{} is not a correct safetensors file: {}", file, reason),
              "it is damaged or was cut off: download or write it again");
}

[[noreturn]] void refuse_tensor(const std::string& file, const std::string& tensor,
                                const std::string& reason) {
  refuse(file, fmt::format("tensor \"{}\": {}", printable(tensor), reason));
}

/// Bytes of a packed tensor; nothing when it overflows or does not end on a byte.
std::optional<uint64_t> packed_bytes(std::span<const int64_t> shape, uint64_t bits) {
  uint64_t total = bits;
  for (int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(total, static_cast<uint64_t>(extent), &total)) return {};
  }
  if (total % 8 != 0) return {};
  return total / 8;
}

std::vector<uint64_t> unsigned_list(const nlohmann::json& entry, const char* key, const std::string& file,
                                    const std::string& tensor) {
  auto list = entry.find(key);
  if (list == entry.end() || !list->is_array())
    refuse_tensor(file, tensor, fmt::format("no list \"{}\"", key));
  std::vector<uint64_t> values;
  for (const nlohmann::json& value : *list) {
    if (!value.is_number_unsigned()) {
      refuse_tensor(file, tensor,
                    fmt::format("\"{}\" holds {} where a count is due", key, printable(value.dump())));
    }
    values.push_back(value.get<uint64_t>());
  }
  return values;
}

SafetensorsEntry parse_entry(const std::string& tensor, const nlohmann::json& json, const std::string& file) {
  if (!json.is_object()) refuse_tensor(file, tensor, "its entry is not an object");
  auto dtype = json.find("dtype");
  if (dtype == json.end() || !dtype->is_string()) refuse_tensor(file, tensor, "no string \"dtype\"");
  SafetensorsEntry entry{.name = tensor, .dtype = dtype->get<std::string>(), .shape = {}};
  std::optional<uint64_t> bits = safetensors_bits(entry.dtype);
  if (!bits) refuse_tensor(file, tensor, fmt::format("unknown dtype \"{}\"", printable(entry.dtype)));

  std::vector<uint64_t> shape = unsigned_list(json, "shape", file, tensor);
  for (uint64_t extent : shape) {
    if (extent > std::numeric_limits<int64_t>::max()) refuse_tensor(file, tensor, "its shape overflows");
    entry.shape.push_back(static_cast<int64_t>(extent));
  }
  std::optional<uint64_t> bytes = packed_bytes(entry.shape, *bits);
  if (!bytes) {
    refuse_tensor(file, tensor,
                  fmt::format("shape [{}] of {} overflows or does not fill whole bytes", printable(shape),
                              entry.dtype));
  }
  std::vector<uint64_t> offsets = unsigned_list(json, "data_offsets", file, tensor);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    refuse_tensor(file, tensor, fmt::format("data_offsets [{}] are not a range", printable(offsets)));
  }
  entry.begin = offsets[0];
  entry.end = offsets[1];
  if (entry.size_bytes() != *bytes) {
    refuse_tensor(
        file, tensor,
        fmt::format("data_offsets {} to {} hold {} bytes, but shape [{}] of {} needs {}", entry.begin,
                    entry.end, entry.size_bytes(), printable(shape), entry.dtype, *bytes));
  }
  return entry;
}

SafetensorsMetadata parse_metadata(const nlohmann::json& json, const std::string& file) {
  SafetensorsMetadata metadata;
  if (!json.is_object()) refuse(file, "__metadata__ is not an object");
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) refuse(file, fmt::format("__metadata__ \"{}\" is not a string", printable(key)));
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

void check_packed(const std::vector<SafetensorsEntry>& entries, uint64_t data_bytes,
                  const std::string& file) {
  uint64_t expected = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin != expected) {
      refuse_tensor(file, entry.name,
                    fmt::format("begins at offset {} of the data where {} is due ({})", entry.begin, expected,
                                entry.begin > expected ? "a hole" : "an overlap"));
    }
    expected = entry.end;
    if (expected > data_bytes) {
      refuse_tensor(
          file, entry.name,
          fmt::format("ends at offset {} of the data, but the file holds {} bytes of data: truncated",
                      expected, data_bytes));
    }
  }
  if (expected != data_bytes) {
    refuse(file, fmt::format("the tensors end at offset {} of the data, but the file holds {} bytes of data",
                             expected, data_bytes));
  }
}

std::string header_json(const std::vector<SafetensorsEntry>& entries, const SafetensorsMetadata& metadata) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (!metadata.empty()) json[kMetadataKey] = metadata;
  for (const SafetensorsEntry& entry : entries) {
    json[entry.name] = {
        {"dtype", entry.dtype}, {"shape", entry.shape}, {"data_offsets", {entry.begin, entry.end}}};
  }
  std::string text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

/// Entries in file order: wider elements first, then as declared.
std::vector<SafetensorsEntry> lay_out(std::vector<SafetensorsDeclaration> tensors) {
  std::vector<SafetensorsEntry> entries;
  for (const SafetensorsDeclaration& tensor : tensors) {
    ensure(safetensors_bits(tensor.dtype).has_value(), "safetensors: unknown dtype " + tensor.dtype);
  }
  std::ranges::stable_sort(tensors, std::greater<>{}, [](const SafetensorsDeclaration& tensor) {
    return safetensors_bits(tensor.dtype).value();
  });
  uint64_t begin = 0;
  for (SafetensorsDeclaration& tensor : tensors) {
    std::optional<uint64_t> bytes = packed_bytes(tensor.shape, safetensors_bits(tensor.dtype).value());
    ensure(bytes.has_value(), "safetensors: impossible shape of " + tensor.name);
    entries.push_back(
        {std::move(tensor.name), std::move(tensor.dtype), std::move(tensor.shape), begin, begin + *bytes});
    begin += *bytes;
  }
  return entries;
}

}  // namespace

std::optional<uint64_t> safetensors_bits(std::string_view dtype) {
  static constexpr std::array<std::pair<std::string_view, uint64_t>, 22> kBits{{
      {"BOOL", 8},  {"U8", 8},      {"I8", 8},      {"U16", 16},        {"I16", 16},        {"F16", 16},
      {"BF16", 16}, {"U32", 32},    {"I32", 32},    {"F32", 32},        {"U64", 64},        {"I64", 64},
      {"F64", 64},  {"C64", 64},    {"F8_E4M3", 8}, {"F8_E5M2", 8},     {"F8_E4M3FNUZ", 8}, {"F8_E8M0", 8},
      {"F4", 4},    {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F8_E5M2FNUZ", 8},
  }};
  auto found = std::ranges::find(kBits, dtype, [](const auto& pair) { return pair.first; });
  if (found == kBits.end()) return {};
  return found->second;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_bytes,
                                           const std::string& file) {
  if (!json.starts_with('{')) refuse(file, "the header does not begin with \"{\"");
  const nlohmann::json parsed = parse_strict_json(json, "the header of " + file);
  SafetensorsHeader header;
  for (const auto& [name, value] : parsed.items()) {
    if (name == kMetadataKey) {
      header.metadata = parse_metadata(value, file);
    } else {
      header.entries.push_back(parse_entry(name, value, file));
    }
  }
  std::ranges::sort(header.entries, {},
                    [](const SafetensorsEntry& entry) { return std::pair(entry.begin, entry.end); });
  check_packed(header.entries, data_bytes, file);
  return header;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(File::open_to_read(path)) {
  uint64_t file_bytes = file_.size_bytes();
  if (file_bytes < kPrefixBytes) refuse(path.string(), fmt::format("it has {} bytes only", file_bytes));
  std::array<std::byte, kPrefixBytes> prefix{};
  file_.read_at(0, prefix);
  uint64_t header_bytes = std::bit_cast<uint64_t>(prefix);
  if (header_bytes > kLargestHeader) {
    refuse(path.string(),
           fmt::format("its header claims {} bytes; {} are allowed", header_bytes, kLargestHeader));
  }
  if (header_bytes > file_bytes - kPrefixBytes) {
    refuse(path.string(), fmt::format("its header claims {} bytes, but the file has {}: truncated",
                                      header_bytes, file_bytes));
  }
  std::string json(header_bytes, '\0');
  file_.read_at(kPrefixBytes, std::as_writable_bytes(std::span(json)));
  data_begin_ = kPrefixBytes + header_bytes;
  header_ = parse_safetensors_header(json, file_bytes - data_begin_, path.string());
  for (size_t i = 0; i < header_.entries.size(); ++i) index_[header_.entries[i].name] = i;
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.entries[found->second];
}

const SafetensorsEntry& SafetensorsFile::at(std::string_view name) const {
  const SafetensorsEntry* entry = find(name);
  check(
      entry != nullptr, ErrorKind::kData,
      fmt::format("{} has no tensor \"{}\" (it holds {} tensors)", path().string(), name, entries().size()));
  return *entry;
}

void SafetensorsFile::read(const SafetensorsEntry& entry, uint64_t offset, std::span<std::byte> to) const {
  ensure(offset <= entry.size_bytes() && to.size() <= entry.size_bytes() - offset,
         "safetensors: read beyond the end of tensor " + entry.name);
  file_.read_at(data_begin_ + entry.begin + offset, to);
}

std::vector<std::byte> SafetensorsFile::read(const SafetensorsEntry& entry) const {
  std::vector<std::byte> bytes(entry.size_bytes());
  read(entry, 0, bytes);
  return bytes;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<SafetensorsDeclaration> tensors,
                                     const SafetensorsMetadata& metadata)
    : file_(path), entries_(lay_out(std::move(tensors))), written_(entries_.size()) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    ensure(entries_[i].name != kMetadataKey && index_.emplace(entries_[i].name, i).second,
           "safetensors: the tensor name " + entries_[i].name + " is taken");
  }
  std::string json = header_json(entries_, metadata);
  ensure(json.size() <= kLargestHeader, "safetensors: the header becomes too large");
  data_begin_ = kPrefixBytes + json.size();
  auto prefix = std::bit_cast<std::array<std::byte, kPrefixBytes>>(uint64_t{json.size()});
  file_.write_at(0, prefix);
  file_.write_at(kPrefixBytes, std::as_bytes(std::span(json)));
}

void SafetensorsWriter::append(std::string_view name, std::span<const std::byte> bytes) {
  auto found = index_.find(name);
  ensure(found != index_.end(), "safetensors: tensor was not declared: " + std::string(name));
  const SafetensorsEntry& entry = entries_[found->second];
  uint64_t& written = written_[found->second];
  ensure(bytes.size() <= entry.size_bytes() - written,
         "safetensors: more bytes than declared for " + entry.name);
  file_.write_at(data_begin_ + entry.begin + written, bytes);
  written += bytes.size();
}

void SafetensorsWriter::finish() {
  for (size_t i = 0; i < entries_.size(); ++i) {
    ensure(written_[i] == entries_[i].size_bytes(), "safetensors: bytes are missing for " + entries_[i].name);
  }
  file_.commit();
}

}  // namespace tmd
