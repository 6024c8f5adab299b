#include "checkpoint/part_writer.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "checkpoint/part_file.h"

namespace tmd::checkpoint {
namespace fs = std::filesystem;
namespace {

// Of what changes soon, written at once instead of copied: beside the copies a save needs a few buffers.
constexpr uint64_t kLeftOut = 40 * kBlockBytes;

void check_parts(const std::vector<LocalPart>& parts) {
  std::set<std::string> keys;
  for (const LocalPart& part : parts) {
    ensure(keys.insert(part.key).second, "checkpoint: the key " + part.key + " is used twice on this rank");
    bool is_name = !part.key.starts_with('.') && part.key.find('/') == std::string::npos && !part.key.empty();
    ensure(is_name, "checkpoint: the key \"" + part.key + "\" gives no file name");
    std::string fault = fault_of_slices(part.slices, part.dtype, part.bytes.size());
    ensure(fault.empty(), "checkpoint: part " + part.key + ": " + fault);
  }
}

SafetensorsDeclaration declare(const LocalPart& part) {
  uint64_t element_bytes = safetensors_bits(part.dtype).value() / 8;
  return {part.key, part.dtype, {static_cast<int64_t>(part.bytes.size() / element_bytes)}};
}

}  // namespace

PartWriter::PartWriter(int rank, std::vector<LocalPart> parts) : rank_(rank) {
  check_parts(parts);
  for (LocalPart& part : parts) {
    if (part.device >= 0 && !reader_) reader_.emplace(part.device);
    sources_.push_back({});
    sources_.back().part = std::move(part);
  }
}

// Under the lock, out of the part's own memory.
void PartWriter::copy_out(const Source& source, uint64_t offset, std::span<std::byte> to) {
  const std::byte* from = source.part.bytes.data() + offset;
  if (source.part.device < 0) {
    std::memcpy(to.data(), from, to.size());
  } else {
    reader_->read(to, from);
  }
}

// Under the lock. Whether more of it is left to copy.
bool PartWriter::copy_block(Source& source) {
  const uint64_t size = source.part.bytes.size();
  if (source.done == size) return false;
  if (!source.copy.data()) {
    source.copy = AnonymousMemory(size - source.done);
    source.copy_begin = source.copy_end = source.done;
  }
  const uint64_t count = std::min(kBlockBytes, size - source.copy_end);
  copy_out(source, source.copy_end, {source.copy.data() + (source.copy_end - source.copy_begin), count});
  source.copy_end += count;
  return source.copy_end < size;
}

// The lock is free between blocks: whoever calls `keep` meanwhile copies the rest at once. Leaves out whole
// parts of at most `left_out` bytes, and returns what may still be left out.
uint64_t PartWriter::copy_in_pieces(const std::string& group, uint64_t left_out) {
  for (Source& source : sources_) {
    if (group_of(source.part.key) != group) continue;
    if (source.part.bytes.size() <= left_out) {
      left_out -= source.part.bytes.size();
      continue;
    }
    left_out = 0;
    for (bool more = true; more;) {
      const std::scoped_lock lock(mutex_);
      check(!is_cancelled_, ErrorKind::kIo, "the checkpoint was given up");
      more = copy_block(source);
    }
  }
  return left_out;
}

void PartWriter::keep(const std::string& group) {
  const std::scoped_lock lock(mutex_);
  for (Source& source : sources_) {
    if (group_of(source.part.key) != group) continue;
    while (copy_block(source)) {
    }
  }
}

// Copied out under the lock, so that nobody waits for the disk; the block stays in the cache.
std::span<const std::byte> PartWriter::take_block(Source& source, std::span<std::byte> staging) {
  const std::scoped_lock lock(mutex_);
  check(!is_cancelled_, ErrorKind::kIo, "the checkpoint was given up");
  const uint64_t size = std::min<uint64_t>(staging.size(), source.part.bytes.size() - source.done);
  if (source.copy.data()) {
    std::memcpy(staging.data(), source.copy.data() + (source.done - source.copy_begin), size);
  } else {
    copy_out(source, source.done, staging.first(size));
  }
  source.done += size;
  if (source.copy.data()) source.copy.discard_front(source.done - source.copy_begin);
  if (source.done == source.part.bytes.size()) source.copy = {};
  return staging.first(size);
}

// Those of this rank's parts, `first` in front.
std::vector<std::string> PartWriter::groups(const std::vector<std::string>& first) const {
  std::vector<std::string> groups;
  for (const std::string& group : first) {
    const auto is_member = [&](const Source& source) { return group_of(source.part.key) == group; };
    if (std::ranges::any_of(sources_, is_member)) groups.push_back(group);
  }
  for (const Source& source : sources_) {
    const std::string group = group_of(source.part.key);
    if (std::ranges::find(groups, group) == groups.end()) groups.push_back(group);
  }
  return groups;
}

void PartWriter::write_group(const fs::path& folder, const std::string& group,
                             std::deque<SafetensorsWriter>& files) {
  std::vector<Source*> members;
  std::vector<SafetensorsDeclaration> declarations;
  for (Source& source : sources_) {
    if (group_of(source.part.key) != group) continue;
    members.push_back(&source);
    declarations.push_back(declare(source.part));
  }
  const std::string file = part_file_name(rank_, group);
  SafetensorsWriter& writer =
      files.emplace_back(folder / file, declarations, SafetensorsMetadata{{"format", kFormatName}});
  std::vector<std::byte> staging(kBlockBytes);
  for (Source* source : members) {
    const LocalPart& part = source->part;
    std::vector<uint64_t> hashes;
    for (uint64_t begin = 0; begin < part.bytes.size(); begin += kBlockBytes) {
      const std::span<const std::byte> block = take_block(*source, staging);
      hashes.push_back(xxh3_64(block));
      writer.append(part.key, block);
    }
    written_.push_back({.key = part.key,
                        .dtype = part.dtype,
                        .rank = rank_,
                        .file = file,
                        .tensor = part.key,
                        .size_bytes = part.bytes.size(),
                        .slices = part.slices,
                        .block_hashes = std::move(hashes)});
  }
}

void PartWriter::write(const fs::path& folder, const std::vector<std::string>& changing) {
  uint64_t left_out = kLeftOut;
  for (const std::string& group : changing) left_out = copy_in_pieces(group, left_out);
  std::deque<SafetensorsWriter> files;
  for (const std::string& group : groups(changing)) write_group(folder, group, files);
  for (SafetensorsWriter& file : files) file.finish();
}

void PartWriter::cancel() {
  const std::scoped_lock lock(mutex_);
  is_cancelled_ = true;
}

}  // namespace tmd::checkpoint
