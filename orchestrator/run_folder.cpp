#include "orchestrator/run_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <thread>

#include <torch/version.h>

#include "base/error.h"
#include "base/log.h"
#include "base/publish.h"
#include "comm/agree.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

void publish_text(const fs::path& path, const std::string& text) {
  publish_file(path, std::as_bytes(std::span(text)));
}

void refuse_other_experiment(const fs::path& folder, const configs::OptionTable& table,
                             const std::vector<std::string>& allowed) {
  std::vector<std::string> lines;
  for (const configs::OptionDifference& difference : table.experiment_differences(folder / "config.ini")) {
    if (std::find(allowed.begin(), allowed.end(), difference.name) != allowed.end()) {
      log_warning("{} changes from {} to {} in a run that goes on (allowed)", difference.name, difference.theirs,
                  difference.ours);
      continue;
    }
    lines.push_back(fmt::format("{} is {} there, {} here", difference.name, difference.theirs, difference.ours));
  }
  check(lines.empty(), ErrorKind::kConfig,
        fmt::format("{} holds another experiment: {}", folder.string(), fmt::join(lines, "; ")),
        "give another --run folder, or allow a change with --allow-change section.key");
}

}  // namespace

RunFolder::RunFolder(comm::Communicator& world, fs::path path, const configs::OptionTable& table,
                     const std::vector<std::string>& allowed_changes)
    : path_(std::move(path)) {
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) prepare(table, allowed_changes, world.size());
  });
  comm::run_agreed(world, [&] { log_to_file(path_ / "log" / fmt::format("rank_{:05d}.txt", world.rank())); });
}

void RunFolder::prepare(const configs::OptionTable& table, const std::vector<std::string>& allowed_changes,
                        int ranks) const {
  if (fs::exists(path_ / "config.ini")) {
    refuse_other_experiment(path_, table, allowed_changes);
  } else {
    check(!fs::exists(path_) || (fs::is_directory(path_) && fs::is_empty(path_)), ErrorKind::kConfig,
          fmt::format("{} exists and is no run folder (it has no config.ini)", path_.string()),
          "give a new or an empty folder");
  }
  std::error_code error;
  for (const char* name : {"log", "samples", "checkpoints", "eval"}) fs::create_directories(path_ / name, error);
  check(!error, ErrorKind::kIo, fmt::format("cannot make the run folder {}: {}", path_.string(), error.message()));
  publish_text(path_ / "config.ini", table.resolved_ini());
  publish_text(path_ / "env.json", environment(ranks).dump(2) + "\n");
}

nlohmann::json environment(int ranks) {
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  char time[32] = {};
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  std::strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
  return {{"version", code_version()},
          {"torch", TORCH_VERSION},
          {"host", host},
          {"cores", std::thread::hardware_concurrency()},
          {"ranks", ranks},
          {"started", time}};
}

std::string code_version() { return TMD_VERSION; }

}  // namespace tmd::orchestrator
