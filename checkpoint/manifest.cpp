#include "checkpoint/manifest.h"

#include <charconv>
#include <span>

#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/safetensors.h"

namespace tmd::checkpoint {
namespace {

using Json = nlohmann::json;

std::string hash_text(uint64_t hash) { return fmt::format("{:016x}", hash); }

uint64_t parse_hash(const std::string& text) {
  uint64_t hash = 0;
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), hash, 16);
  bool is_whole = failure == std::errc{} && end == text.data() + text.size() && text.size() == 16;
  check(is_whole, ErrorKind::kIo, fmt::format("\"{}\" is not a hash of 16 hexadecimal digits", text));
  return hash;
}

Json slice_to_json(const PlacedSlice& placed) {
  const sharding::Slice& slice = placed.slice;
  return {{"name", slice.name},
          {"full_shape", slice.full_shape},
          {"split_dim", slice.split_dim},
          {"split_begin", slice.split_begin},
          {"split_count", slice.split_count},
          {"flat_begin", slice.flat_begin},
          {"flat_end", slice.flat_end},
          {"offset", placed.byte_offset}};
}

PlacedSlice slice_from_json(const Json& json) {
  PlacedSlice placed;
  json.at("name").get_to(placed.slice.name);
  json.at("full_shape").get_to(placed.slice.full_shape);
  json.at("split_dim").get_to(placed.slice.split_dim);
  json.at("split_begin").get_to(placed.slice.split_begin);
  json.at("split_count").get_to(placed.slice.split_count);
  json.at("flat_begin").get_to(placed.slice.flat_begin);
  json.at("flat_end").get_to(placed.slice.flat_end);
  json.at("offset").get_to(placed.byte_offset);
  return placed;
}

/// Over everything but the checksum itself. Objects are sorted by key, so the text is the same for equal
/// content, however the file is laid out.
std::string checksum_of(Json json) {
  json.erase("checksum");
  return hash_text(xxh3_64(json.dump()));
}

Manifest manifest_from_json(const Json& json) {
  Manifest manifest;
  Description& description = manifest.description;
  json.at("step").get_to(description.step);
  const Json& mesh = json.at("mesh");
  mesh.at("replicate").get_to(description.mesh.replicate);
  mesh.at("shard").get_to(description.mesh.shard);
  mesh.at("sequence").get_to(description.mesh.sequence);
  mesh.at("tensor").get_to(description.mesh.tensor);
  description.mesh.two_level = mesh.value("two_level", false);
  description.experiment_hash = parse_hash(json.at("experiment_hash").get<std::string>());
  json.at("code_version").get_to(description.code_version);
  description.state = json.at("state");
  for (const Json& part : json.at("parts")) manifest.parts.push_back(part_from_json(part));
  return manifest;
}

void check_parts(const Manifest& manifest, const std::string& file) {
  for (const Part& part : manifest.parts) {
    std::string fault = fault_of_slices(part.slices, part.dtype, part.size_bytes);
    if (part.block_hashes.size() != (part.size_bytes + kBlockBytes - 1) / kBlockBytes)
      fault = "wrong count of hashes";
    if (part.file.find('/') != std::string::npos) fault = "its file lies outside the folder";
    check(fault.empty(), ErrorKind::kIo,
          fmt::format("{}: part {} of rank {}: {}", file, part.key, part.rank, fault));
  }
}

/// Elements of the block that a slice is cut from; -1 when the slice's numbers contradict each other.
int64_t block_elements(const sharding::Slice& slice) {
  int64_t elements = 1;
  int dims = static_cast<int>(slice.full_shape.size());
  if (slice.split_dim < -1 || slice.split_dim >= dims) return -1;
  for (int dim = 0; dim < dims; ++dim) {
    int64_t extent = slice.full_shape[static_cast<size_t>(dim)];
    if (extent < 0) return -1;
    if (dim == slice.split_dim) {
      if (slice.split_begin < 0 || slice.split_count < 0 || slice.split_begin > extent - slice.split_count)
        return -1;
      extent = slice.split_count;
    }
    if (__builtin_mul_overflow(elements, extent, &elements)) return -1;
  }
  return elements;
}

}  // namespace

const Part* Manifest::find(int rank, const std::string& key) const {
  for (const Part& part : parts) {
    if (part.rank == rank && part.key == key) return &part;
  }
  return nullptr;
}

Json part_to_json(const Part& part) {
  Json slices = Json::array();
  for (const PlacedSlice& placed : part.slices) slices.push_back(slice_to_json(placed));
  Json hashes = Json::array();
  for (uint64_t hash : part.block_hashes) hashes.push_back(hash_text(hash));
  return {{"key", part.key},
          {"dtype", part.dtype},
          {"rank", part.rank},
          {"file", part.file},
          {"tensor", part.tensor},
          {"bytes", part.size_bytes},
          {"slices", std::move(slices)},
          {"xxh3", std::move(hashes)}};
}

Part part_from_json(const Json& json) {
  Part part;
  json.at("key").get_to(part.key);
  json.at("dtype").get_to(part.dtype);
  json.at("rank").get_to(part.rank);
  json.at("file").get_to(part.file);
  json.at("tensor").get_to(part.tensor);
  json.at("bytes").get_to(part.size_bytes);
  for (const Json& slice : json.at("slices")) part.slices.push_back(slice_from_json(slice));
  for (const Json& hash : json.at("xxh3")) part.block_hashes.push_back(parse_hash(hash.get<std::string>()));
  return part;
}

std::string to_json(const Manifest& manifest) {
  const Description& description = manifest.description;
  const sharding::MeshShape& mesh = description.mesh;
  Json json = {{"format", kFormatName},
               {"version", kFormatVersion},
               {"step", description.step},
               {"mesh",
                {{"replicate", mesh.replicate},
                 {"shard", mesh.shard},
                 {"sequence", mesh.sequence},
                 {"tensor", mesh.tensor}}},
               {"experiment_hash", hash_text(description.experiment_hash)},
               {"code_version", description.code_version},
               {"state", description.state},
               {"block_bytes", kBlockBytes},
               {"parts", Json::array()}};
  if (mesh.two_level) json["mesh"]["two_level"] = true;
  for (const Part& part : manifest.parts) json["parts"].push_back(part_to_json(part));
  json["checksum"] = checksum_of(json);
  return json.dump(1) + "\n";
}

Manifest parse_manifest(const std::string& text, const std::filesystem::path& file) {
  try {
    Json json = Json::parse(text);
    check(json.at("format") == kFormatName, ErrorKind::kData,
          fmt::format("{}: format is {}, not \"{}\"", file.string(), json.at("format").dump(), kFormatName));
    int version = json.at("version").get<int>();
    check(version == kFormatVersion, ErrorKind::kData,
          fmt::format("{}: version {} of the format; this program reads version {}", file.string(), version,
                      kFormatVersion));
    check(json.at("checksum") == checksum_of(json), ErrorKind::kIo,
          fmt::format("{} is damaged: its checksum does not fit its content", file.string()));
    Manifest manifest = manifest_from_json(json);
    check_parts(manifest, file.string());
    return manifest;
  } catch (const Json::exception& error) {
    throw Error(ErrorKind::kIo, fmt::format("{} is damaged: {}", file.string(), error.what()));
  }
}

Manifest read_manifest(const std::filesystem::path& folder) {
  File file = File::open_to_read(folder / kManifestName);
  std::string text(file.size_bytes(), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return parse_manifest(text, file.path());
}

std::string fault_of_slices(const std::vector<PlacedSlice>& slices, const std::string& dtype,
                            uint64_t size_bytes) {
  std::optional<uint64_t> bits = safetensors_bits(dtype);
  if (!bits || *bits % 8 != 0) return fmt::format("dtype \"{}\" has no whole bytes", dtype);
  uint64_t element_bytes = *bits / 8;
  if (size_bytes % element_bytes != 0)
    return fmt::format("{} bytes are no whole {} elements", size_bytes, dtype);
  uint64_t free_from = 0;
  for (const PlacedSlice& placed : slices) {
    const sharding::Slice& slice = placed.slice;
    int64_t block = block_elements(slice);
    bool is_in_block = 0 <= slice.flat_begin && slice.flat_begin <= slice.flat_end && slice.flat_end <= block;
    if (!is_in_block) return fmt::format("the slice of {} does not fit into its tensor", slice.name);
    uint64_t bytes = static_cast<uint64_t>(slice.elements()) * element_bytes;
    bool is_in_part = placed.byte_offset >= free_from && placed.byte_offset % element_bytes == 0 &&
                      placed.byte_offset <= size_bytes && bytes <= size_bytes - placed.byte_offset;
    if (!is_in_part) {
      return fmt::format(
          "the slice of {} at byte {} ({} bytes) overlaps its neighbour or the end of the part at {}",
          slice.name, placed.byte_offset, bytes, size_bytes);
    }
    free_from = placed.byte_offset + bytes;
  }
  return {};
}

}  // namespace tmd::checkpoint
