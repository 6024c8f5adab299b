#include "checkpoint/part_file.h"

#include <algorithm>

#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/hash.h"

namespace tmd::checkpoint {
std::string part_file_name(int rank, const std::string& group) {
  return fmt::format("rank_{:05d}.{}.safetensors", rank, group);
}

std::string group_of(const std::string& key) { return key.substr(0, key.find('.')); }

SafetensorsFile open_part_file(const std::filesystem::path& folder, const Part& part) {
  try {
    SafetensorsFile file(folder / part.file);
    const SafetensorsEntry& entry = file.at(part.tensor);
    check(
        entry.dtype == part.dtype && entry.size_bytes() == part.size_bytes, ErrorKind::kIo,
        fmt::format("{} is damaged: tensor \"{}\" has {} bytes of {} where the manifest says {} bytes of {}",
                    file.path().string(), part.tensor, entry.size_bytes(), entry.dtype, part.size_bytes,
                    part.dtype));
    return file;
  } catch (const Error& error) {
    // Breaking the format is bad input elsewhere; here we wrote the file, so it is damage.
    if (error.kind() != ErrorKind::kData) throw;
    throw Error(ErrorKind::kIo,
                fmt::format("part {} of rank {} is damaged: {}", part.key, part.rank, error.what()));
  }
}

uint64_t block_size(const Part& part, size_t block) {
  return std::min(kBlockBytes, part.size_bytes - block * kBlockBytes);
}

void read_block(const SafetensorsFile& file, const Part& part, size_t block, std::span<std::byte> to) {
  file.read(file.at(part.tensor), block * kBlockBytes, to);
  if (xxh3_64(to) == part.block_hashes.at(block)) return;
  throw Error(
      ErrorKind::kIo,
      fmt::format("{} is damaged: tensor \"{}\", block {} of {} (bytes {} to {}) has another hash than the "
                  "manifest says",
                  file.path().string(), part.tensor, block, part.block_hashes.size(), block * kBlockBytes,
                  block * kBlockBytes + to.size()));
}

}  // namespace tmd::checkpoint
