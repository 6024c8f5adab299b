#include "checkpoint/wanted_slices.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <unordered_map>

#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"
#include "base/safetensors.h"
#include "checkpoint/part_file.h"

namespace tmd::checkpoint {
namespace fs = std::filesystem;
namespace {

constexpr const char* kOtherModel =
    "does the configuration describe the model and the method that the checkpoint was made of?";

// What a slice is of, on every mesh: "student.blocks.0.adam_first: blocks.0.q.weight".
std::string name_of(const std::string& part_key, const std::string& tensor) {
  const size_t stem = part_key.find_last_not_of("0123456789") + 1;
  const bool is_numbered = stem < part_key.size() && part_key.substr(0, stem).ends_with(".part");
  return (is_numbered ? part_key.substr(0, stem) : part_key) + ": " + tensor;
}

uint64_t element_bytes(const std::string& dtype) { return safetensors_bits(dtype).value() / 8; }

uint64_t block_begin(BlockId id) { return id.block * kBlockBytes; }

// The elements of a stored slice that lie in bytes begin .. end of its part.
sharding::Slice clipped(const PlacedSlice& placed, uint64_t width, uint64_t begin, uint64_t end) {
  sharding::Slice slice = placed.slice;
  const uint64_t first = std::max(begin, placed.byte_offset);
  const uint64_t last = std::min(end, placed.byte_offset + static_cast<uint64_t>(slice.elements()) * width);
  slice.flat_end =
      slice.flat_begin + (last > first ? static_cast<int64_t>((last - placed.byte_offset) / width) : 0);
  slice.flat_begin += last > first ? static_cast<int64_t>((first - placed.byte_offset) / width) : 0;
  return slice;
}

// Slices of a part that may lie in bytes begin .. end: the first of them.
size_t first_slice(const Part& part, uint64_t width, uint64_t begin) {
  const auto ends_before = [&](const PlacedSlice& placed) {
    return placed.byte_offset + static_cast<uint64_t>(placed.slice.elements()) * width <= begin;
  };
  const auto it = std::partition_point(part.slices.begin(), part.slices.end(), ends_before);
  return static_cast<size_t>(it - part.slices.begin());
}

int64_t shared_elements(const sharding::Slice& a, const sharding::Slice& b) {
  int64_t shared = 0;
  sharding::for_each_shared_run(a, b, [&](int64_t, int64_t, int64_t count) { shared += count; });
  return shared;
}

void check_same_tensor(const Part& stored, const PlacedSlice& placed, const PartToLoad& wanted,
                       const PlacedSlice& place, const fs::path& folder) {
  const auto text = [](const std::string& dtype, const PlacedSlice& s) {
    return fmt::format("{} [{}]", dtype, fmt::join(s.slice.full_shape, ", "));
  };
  check(stored.dtype == wanted.dtype && placed.slice.full_shape == place.slice.full_shape, ErrorKind::kData,
        fmt::format("{}: {} is {}; expected {}", folder.string(), name_of(stored.key, placed.slice.name),
                    text(stored.dtype, placed), text(wanted.dtype, place)),
        kOtherModel);
}

}  // namespace

WantedSlices::WantedSlices(const Manifest& manifest, std::span<const PartToLoad> parts,
                           const fs::path& folder)
    : manifest_(manifest), parts_(parts) {
  match(manifest, folder);
}

void WantedSlices::match(const Manifest& manifest, const fs::path& folder) {
  struct Want {
    Target target;
    int64_t missing = 0;
  };
  std::unordered_map<std::string, Want> wants;
  for (const PartToLoad& part : parts_) {
    for (const PlacedSlice& slice : part.slices)
      wants[name_of(part.key, slice.slice.name)] = {{&part, &slice}, slice.slice.elements()};
  }
  for (size_t p = 0; p < manifest.parts.size(); ++p) {
    const Part& stored = manifest.parts[p];
    Source& source = sources_.emplace_back();
    for (const PlacedSlice& placed : stored.slices) {
      Target& target = source.targets.emplace_back();
      const auto want = wants.find(name_of(stored.key, placed.slice.name));
      if (want == wants.end()) continue;
      const Target& wanted = want->second.target;
      check_same_tensor(stored, placed, *wanted.part, *wanted.slice, folder);
      const int64_t shared = shared_elements(placed.slice, wanted.slice->slice);
      want->second.missing -= shared;
      if (shared > 0) target = wanted;
    }
    find_twin(p);
  }
  for (const PartToLoad& part : parts_) {
    for (const PlacedSlice& slice : part.slices) {
      const std::string name = name_of(part.key, slice.slice.name);
      const int64_t missing = wants.at(name).missing;
      check(missing == 0, ErrorKind::kData,
            fmt::format("{} has {} elements {} of {}; expected {}", folder.string(),
                        slice.slice.elements() - missing, missing > 0 ? "alone" : "in all", name,
                        slice.slice.elements()),
            kOtherModel);
    }
  }
}

void WantedSlices::find_twin(size_t part) {
  const Part& stored = manifest_.parts[part];
  const auto target = std::ranges::find_if(sources_[part].targets, [](const Target& t) { return t.part; });
  if (target == sources_[part].targets.end()) return;
  const bool is_same =
      target->part->slices == stored.slices && target->part->bytes.size() == stored.size_bytes;
  if (is_same) sources_[part].twin = target->part;
}

BitSet WantedSlices::blocks() const {
  size_t count = 0, i = 0;
  for (const Part& part : manifest_.parts) count += part.block_hashes.size();
  BitSet bits(count);
  for (size_t p = 0; p < manifest_.parts.size(); ++p) {
    const Part& part = manifest_.parts[p];
    const uint64_t width = element_bytes(part.dtype);
    for (size_t block = 0; block < part.block_hashes.size(); ++block, ++i) {
      const uint64_t begin = block_begin({p, block}), end = begin + kBlockBytes;
      for (size_t s = first_slice(part, width, begin);
           s < part.slices.size() && part.slices[s].byte_offset < end; ++s) {
        const Target& target = sources_[p].targets[s];
        if (!target.part) continue;
        if (shared_elements(clipped(part.slices[s], width, begin, end), target.slice->slice) > 0) bits.set(i);
      }
    }
  }
  return bits;
}

BitSet WantedSlices::slices() const {
  size_t count = 0, i = 0;
  for (const Part& part : manifest_.parts) count += part.slices.size();
  BitSet bits(count);
  for (const Source& source : sources_) {
    for (const Target& target : source.targets) {
      if (target.part) bits.set(i);
      ++i;
    }
  }
  return bits;
}

std::span<std::byte> WantedSlices::place_of(BlockId id) const {
  const PartToLoad* twin = sources_[id.part].twin;
  if (!twin) return {};
  return twin->bytes.subspan(block_begin(id), block_size(manifest_.parts[id.part], id.block));
}

void WantedSlices::scatter(BlockId id, std::span<const std::byte> bytes) const {
  const Part& part = manifest_.parts[id.part];
  const uint64_t width = element_bytes(part.dtype), begin = block_begin(id), end = begin + bytes.size();
  for (size_t s = first_slice(part, width, begin); s < part.slices.size() && part.slices[s].byte_offset < end;
       ++s) {
    const Target& target = sources_[id.part].targets[s];
    if (!target.part) continue;
    const PlacedSlice &from = part.slices[s], &to = *target.slice;
    const auto copy = [&](int64_t from_flat, int64_t to_flat, int64_t count) {
      const uint64_t source =
          from.byte_offset + static_cast<uint64_t>(from_flat - from.slice.flat_begin) * width - begin;
      const uint64_t place = to.byte_offset + static_cast<uint64_t>(to_flat - to.slice.flat_begin) * width;
      std::memcpy(target.part->bytes.data() + place, bytes.data() + source,
                  static_cast<uint64_t>(count) * width);
    };
    sharding::for_each_shared_run(clipped(from, width, begin, end), to.slice, copy);
  }
}

std::vector<BlockId> all_blocks(const Manifest& manifest) {
  std::vector<BlockId> blocks;
  for (size_t part = 0; part < manifest.parts.size(); ++part) {
    for (size_t block = 0; block < manifest.parts[part].block_hashes.size(); ++block)
      blocks.push_back({part, block});
  }
  return blocks;
}

}  // namespace tmd::checkpoint
