#include "orchestrator/run_folder.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <string_view>
#include <thread>
#include <unistd.h>

#include <torch/version.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/log.h"
#include "base/publish.h"
#include "comm/agree.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 5> kFolders = {"log", "samples", "checkpoints", "eval", "journal"};

// What a student is and was pre-trained for (M, N, H): weights of one are of no use to another.
bool is_of_the_student(const std::string& option) {
  constexpr std::array<std::string_view, 9> kOptions = {
      "method.name",         "method.outer_steps", "method.inner_steps",
      "method.outer_shift",  "method.inner_shift", "method.head_blocks",
      "method.inner_target", "method.head_output", "method.fusion"};
  const bool is_size = option.starts_with("model.") && option != "model.weights";
  return is_size || std::ranges::find(kOptions, option) != kOptions.end();
}

void publish_text(const fs::path& path, const std::string& text) {
  publish_file(path, std::as_bytes(std::span(text)));
}

void refuse_other_experiment(const fs::path& folder, const configs::OptionTable& table,
                             const std::vector<std::string>& allowed) {
  std::vector<std::string> lines;
  bool may_change = true;
  for (const configs::OptionDifference& difference : table.experiment_differences(folder / "config.ini")) {
    if (is_of_the_student(difference.name)) {
      may_change = false;
    } else if (std::ranges::find(allowed, difference.name) != allowed.end()) {
      log_warning("{} changes from {} to {} in a run that goes on (allowed)", difference.name,
                  difference.theirs, difference.ours);
      continue;
    }
    lines.push_back(
        fmt::format("{} is {} there, {} here", difference.name, difference.theirs, difference.ours));
  }
  check(lines.empty(), ErrorKind::kConfig,
        fmt::format("{} holds another experiment: {}", folder.string(), fmt::join(lines, "; ")),
        may_change
            ? "give another --run folder, or allow a change with --allow-change section.key"
            : "give another --run folder: a student and its checkpoints are made for one set of these");
}

}  // namespace

RunFolder::RunFolder(comm::Communicator& world, fs::path path, const configs::OptionTable& table,
                     const std::vector<std::string>& allowed_changes)
    : path_(std::move(path)), resolved_config_(table.resolved_ini()), ranks_(world.size()) {
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) prepare(table, allowed_changes);
  });
  comm::run_agreed(world, [&] { log_to_file(path_ / "log" / fmt::format("rank_{:05d}.txt", world.rank())); });
}

void RunFolder::prepare(const configs::OptionTable& table, const std::vector<std::string>& allowed_changes) {
  if (fs::exists(path_ / "config.ini")) {
    refuse_other_experiment(path_, table, allowed_changes);
  } else {
    refuse_foreign_folder();
  }
  create_folders(path_);
  lock_.emplace(path_);
  remove_tree(verdict());
  for (const fs::path& entry : list_folder(path_)) {  // of a start or a doctor that was killed
    if (entry.filename().string().starts_with("tmd-write-test-")) remove_tree(entry);
  }
  for (const std::string_view name : kFolders) create_folders(path_ / name);
}

// Without config.ini it may only be what an earlier start has left behind before it got that far.
void RunFolder::refuse_foreign_folder() const {
  bool is_ours = !fs::exists(path_) || fs::is_directory(path_);
  const std::vector<fs::path> entries = is_ours ? list_folder(path_) : std::vector<fs::path>{};
  for (const fs::path& entry : entries) {
    const std::string name = entry.filename().string();
    const bool is_made_by_us = std::ranges::find(kFolders, name) != kFolders.end() ||
                               name == "metrics.jsonl" || name.starts_with("verdict.json") ||
                               name == "in_use" || name == "faults" || name.starts_with("tmd-write-test-") ||
                               name.starts_with("config.ini.tmp-") || name.starts_with("env.json");
    is_ours = is_ours && is_made_by_us;
  }
  is_ours = is_ours && list_folder(path_ / "checkpoints").empty();
  check(is_ours, ErrorKind::kConfig,
        fmt::format("{} exists and is no run folder (it has no config.ini)", path_.string()),
        "give a new or an empty folder");
}

void RunFolder::publish_config() const {
  publish_text(path_ / "config.ini", resolved_config_);
  publish_text(path_ / "env.json", environment(ranks_).dump(2) + "\n");
}

void RunFolder::publish_verdict(ErrorKind kind, const std::string& reason, const std::string& text,
                                const std::vector<int>& late_ranks) const {
  nlohmann::json json = {{"exit_code", static_cast<int>(kind)}, {"reason", reason}, {"text", text}};
  if (!late_ranks.empty()) json["late_ranks"] = late_ranks;
  // Several ranks may come at once: a link is made once. Where there are no links, the last one stays.
  const fs::path own = fmt::format("{}.rank-{}", verdict().string(), getpid());
  publish_text(own, json.dump(2) + "\n");
  std::error_code failure;
  fs::create_hard_link(own, verdict(), failure);
  if (failure && failure != std::errc::file_exists) return rename_durably(own, verdict());
  remove_tree(own);
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
