#include "checkpoint/writer.h"

#include <algorithm>
#include <map>
#include <set>

#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/hash.h"
#include "base/publish.h"
#include "base/safetensors.h"
#include "checkpoint/part_file.h"
#include "comm/agree.h"

namespace tmd::checkpoint {
namespace fs = std::filesystem;
namespace {

void check_local_parts(std::span<const LocalPart> parts) {
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

/// Appends the part's bytes and returns their hashes, block by block while they are in the cache.
std::vector<uint64_t> append_hashed(SafetensorsWriter& writer, const LocalPart& part) {
  std::vector<uint64_t> hashes;
  for (size_t begin = 0; begin < part.bytes.size(); begin += kBlockBytes) {
    auto block = part.bytes.subspan(begin, std::min<size_t>(kBlockBytes, part.bytes.size() - begin));
    hashes.push_back(xxh3_64(block));
    writer.append(part.key, block);
  }
  return hashes;
}

/// Writes one file per group into `folder`.
std::vector<Part> write_parts(const fs::path& folder, int rank, std::span<const LocalPart> parts) {
  check_local_parts(parts);
  std::map<std::string, std::vector<const LocalPart*>> groups;
  for (const LocalPart& part : parts) groups[group_of(part.key)].push_back(&part);

  std::vector<Part> written;
  for (const auto& [group, members] : groups) {
    std::string file = part_file_name(rank, group);
    std::vector<SafetensorsDeclaration> declarations;
    for (const LocalPart* part : members) declarations.push_back(declare(*part));
    SafetensorsWriter writer(folder / file, declarations, {{"format", kFormatName}});
    for (const LocalPart* part : members) {
      written.push_back({.key = part->key,
                         .dtype = part->dtype,
                         .rank = rank,
                         .file = file,
                         .tensor = part->key,
                         .size_bytes = part->bytes.size(),
                         .slices = part->slices,
                         .block_hashes = append_hashed(writer, *part)});
    }
    writer.finish();
  }
  return written;
}

std::string parts_to_text(const std::vector<Part>& parts) {
  nlohmann::json list = nlohmann::json::array();
  for (const Part& part : parts) list.push_back(part_to_json(part));
  return list.dump();
}

/// Clears the way for the new folder; `total_bytes` is what all ranks are about to write.
void prepare(const fs::path& folder, uint64_t total_bytes) {
  remove_tree(partial_folder(folder));
  create_folders(partial_folder(folder));
  uint64_t free = free_bytes(partial_folder(folder));
  check(total_bytes <= free, ErrorKind::kIo,
        fmt::format("cannot write the checkpoint {}: it needs {} bytes and the file system has {} left",
                    folder.string(), total_bytes, free),
        "free some space, or keep fewer checkpoints (checkpoint.keep_last)");
}

/// Gives the partial folder its final name. A folder of that name is kept aside until then, so that at every
/// moment one complete checkpoint of this step exists if one existed before (Store::recover).
void give_final_name(const fs::path& folder) {
  fs::path aside = replaced_folder(folder);
  std::error_code ignored;
  bool is_replacing = fs::exists(folder, ignored);
  if (is_replacing) {
    remove_tree(aside);
    rename_durably(folder, aside);
  }
  try {
    publish_folder(partial_folder(folder), folder);
  } catch (const Error&) {
    if (is_replacing) rename_durably(aside, folder);
    throw;
  }
  fs::remove_all(aside, ignored);  // what stays behind is cleared away at the next start
}

void commit(const fs::path& folder, const Description& description, const std::vector<std::string>& texts) {
  Manifest manifest{.description = description, .parts = {}};
  for (const std::string& text : texts) {
    for (const nlohmann::json& part : nlohmann::json::parse(text))
      manifest.parts.push_back(part_from_json(part));
  }
  for (const Part& part : manifest.parts) {
    std::error_code ignored;
    fs::path file = partial_folder(folder) / part.file;
    check(fs::exists(file, ignored), ErrorKind::kIo,
          fmt::format("rank 0 does not see {}, which rank {} has written", file.string(), part.rank),
          "the run folder must lie on a file system that all nodes share");
  }
  publish_file(partial_folder(folder) / kManifestName, to_json(manifest));
  give_final_name(folder);
}

}  // namespace

std::string step_folder_name(int64_t step) { return fmt::format("step_{:08d}", step); }
fs::path partial_folder(const fs::path& folder) { return folder.string() + ".partial"; }
fs::path replaced_folder(const fs::path& folder) { return folder.string() + ".replaced"; }

void save(comm::Communicator& comm, const fs::path& folder, const Description& description,
          std::span<const LocalPart> parts) {
  double total_bytes = 0;  // exact below 2^53 bytes
  for (const LocalPart& part : parts) total_bytes += static_cast<double>(part.bytes.size());
  comm::sum(comm, {&total_bytes, 1});
  bool is_first = comm.rank() == 0;
  try {
    comm::run_agreed(comm, [&] {
      ensure(description.mesh.ranks() == comm.size(),
             "checkpoint: the mesh has as many ranks as the communicator");
      if (is_first) prepare(folder, static_cast<uint64_t>(total_bytes));
    });
    std::vector<Part> written;
    comm::run_agreed(comm, [&] { written = write_parts(partial_folder(folder), comm.rank(), parts); });
    std::vector<std::string> texts = comm::gather_strings(comm, parts_to_text(written));
    comm::run_agreed(comm, [&] {
      if (is_first) commit(folder, description, texts);
    });
  } catch (const Error&) {
    std::error_code ignored;
    if (is_first) fs::remove_all(partial_folder(folder), ignored);
    throw;
  }
}

}  // namespace tmd::checkpoint
