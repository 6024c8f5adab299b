#include "checkpoint/reader.h"

#include <algorithm>

#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "checkpoint/part_file.h"
#include "comm/agree.h"

namespace tmd::checkpoint {
namespace fs = std::filesystem;
namespace {

constexpr const char* kOtherModel =
    "does the configuration describe the model that the checkpoint was made of?";

void check_mesh(const sharding::MeshShape& wanted, const sharding::MeshShape& written,
                const fs::path& folder) {
  check(wanted == written, ErrorKind::kConfig,
        fmt::format("{} was written on the mesh {} ({} ranks), this run has {} ({} ranks)", folder.string(),
                    written.to_string(), written.ranks(), wanted.to_string(), wanted.ranks()),
        "start with the mesh that wrote the checkpoint");
}

/// The first slice that differs, in words.
std::string difference(const std::vector<PlacedSlice>& stored, const std::vector<PlacedSlice>& wanted) {
  for (size_t i = 0; i < std::min(stored.size(), wanted.size()); ++i) {
    if (stored[i] == wanted[i]) continue;
    const sharding::Slice& a = stored[i].slice;
    const sharding::Slice& b = wanted[i].slice;
    return fmt::format(
        "slice {} is of \"{}\", elements {} to {} at byte {}; expected \"{}\", elements {} to {} at byte {}",
        i, a.name, a.flat_begin, a.flat_end, stored[i].byte_offset, b.name, b.flat_begin, b.flat_end,
        wanted[i].byte_offset);
  }
  return fmt::format("it has {} slices; expected {}", stored.size(), wanted.size());
}

const Part& match(const Manifest& manifest, const PartToLoad& wanted, const fs::path& folder) {
  const int rank = wanted.rank;
  const Part* stored = manifest.find(rank, wanted.key);
  check(stored != nullptr, ErrorKind::kData,
        fmt::format("{} holds no part {} of rank {}", folder.string(), wanted.key, rank), kOtherModel);
  std::string where = fmt::format("{}: part {} of rank {}", folder.string(), wanted.key, rank);
  check(stored->dtype == wanted.dtype && stored->size_bytes == wanted.bytes.size(), ErrorKind::kData,
        fmt::format("{} has {} bytes of {}; expected {} bytes of {}", where, stored->size_bytes,
                    stored->dtype, wanted.bytes.size(), wanted.dtype),
        kOtherModel);
  check(stored->slices == wanted.slices, ErrorKind::kData,
        fmt::format("{}: {}", where, difference(stored->slices, wanted.slices)), kOtherModel);
  return *stored;
}

void check_nothing_is_left(const Manifest& manifest, int rank, std::span<const PartToLoad> wanted,
                           const fs::path& folder) {
  for (const Part& part : manifest.parts) {
    bool is_wanted =
        part.rank != rank || std::ranges::find(wanted, part.key, &PartToLoad::key) != wanted.end();
    check(is_wanted, ErrorKind::kData,
          fmt::format("{} holds part {} of rank {}, which this run has no place for", folder.string(),
                      part.key, rank),
          kOtherModel);
  }
}

Description load_local(const fs::path& folder, const sharding::MeshShape& mesh, int rank,
                       std::span<const PartToLoad> parts) {
  Manifest manifest = read_manifest(folder);
  check_mesh(mesh, manifest.description.mesh, folder);
  check_nothing_is_left(manifest, rank, parts, folder);
  std::vector<const Part*> stored;
  for (const PartToLoad& part : parts) stored.push_back(&match(manifest, part, folder));
  for (size_t i = 0; i < parts.size(); ++i) {
    read_verified(open_part_file(folder, *stored[i]), *stored[i], parts[i].bytes);
  }
  return manifest.description;
}

}  // namespace

Description load(comm::Communicator& comm, const fs::path& folder, const sharding::MeshShape& mesh,
                 std::span<const PartToLoad> parts) {
  Description description;
  comm::run_agreed(comm, [&] { description = load_local(folder, mesh, comm.rank(), parts); });
  return description;
}

}  // namespace tmd::checkpoint
