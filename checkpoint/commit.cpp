#include "checkpoint/commit.h"

#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/publish.h"
#include "checkpoint/writer.h"

namespace tmd::checkpoint {
namespace fs = std::filesystem;
namespace {

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

}  // namespace

void prepare_partial(const fs::path& folder, uint64_t total_bytes) {
  remove_tree(partial_folder(folder));
  create_folders(partial_folder(folder));
  uint64_t free = free_bytes(partial_folder(folder));
  check(total_bytes <= free, ErrorKind::kIo,
        fmt::format("cannot write the checkpoint {}: it needs {} bytes and the file system has {} left",
                    folder.string(), total_bytes, free),
        "free some space, or keep fewer checkpoints (checkpoint.keep_last)");
}

std::string parts_to_text(const std::vector<Part>& parts) {
  nlohmann::json list = nlohmann::json::array();
  for (const Part& part : parts) list.push_back(part_to_json(part));
  return list.dump();
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

}  // namespace tmd::checkpoint
