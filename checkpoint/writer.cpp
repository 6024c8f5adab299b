#include "checkpoint/writer.h"

#include <spdlog/fmt/fmt.h>

#include "checkpoint/background_save.h"

namespace tmd::checkpoint {
namespace fs = std::filesystem;

std::string step_folder_name(int64_t step) { return fmt::format("step_{:08d}", step); }
fs::path partial_folder(const fs::path& folder) { return folder.string() + ".partial"; }
fs::path replaced_folder(const fs::path& folder) { return folder.string() + ".replaced"; }

void save(comm::Communicator& comm, const fs::path& folder, const Description& description,
          std::span<const LocalPart> parts) {
  BackgroundSave(comm, folder, description, {parts.begin(), parts.end()}).finish();
}

}  // namespace tmd::checkpoint
