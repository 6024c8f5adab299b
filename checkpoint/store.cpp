#include "checkpoint/store.h"

#include <algorithm>
#include <charconv>

#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"
#include "base/folder.h"
#include "checkpoint/writer.h"
#include "comm/agree.h"

namespace tmd::checkpoint {
namespace fs = std::filesystem;
namespace {

/// The step of a folder called step_NNNNNNNN (eight digits or more), nothing for other names.
std::optional<int64_t> step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "step_";
  if (!name.starts_with(kPrefix)) return {};
  int64_t step = 0;
  const char* end = name.data() + name.size();
  auto [stop, failure] = std::from_chars(name.data() + kPrefix.size(), end, step);
  bool is_step = failure == std::errc{} && stop == end && name == step_folder_name(step);
  return is_step ? std::optional(step) : std::nullopt;
}

void recover_entry(const fs::path& entry) {
  fs::path base = fs::path(entry).replace_extension();
  if (!step_of(base.filename().string())) return;
  std::error_code ignored;
  if (entry == replaced_folder(base) && !fs::exists(base, ignored)) {
    rename_durably(entry, base);
  } else if (entry == partial_folder(base) || entry == replaced_folder(base)) {
    remove_tree(entry);
  }
}

/// The steps in `store`, newest first. Ranks may see a folder at different times, so one of them looks.
std::vector<int64_t> steps_of_first_rank(comm::Communicator& comm, const Store& store) {
  std::string text;
  comm::run_agreed(comm, [&] {
    if (comm.rank() == 0) text = nlohmann::json(store.steps()).dump();
  });
  auto steps = nlohmann::json::parse(comm::broadcast_string(comm, text, 0)).get<std::vector<int64_t>>();
  std::ranges::reverse(steps);
  return steps;
}

}  // namespace

fs::path Store::folder(int64_t step) const { return root_ / step_folder_name(step); }

std::vector<int64_t> Store::steps() const {
  std::vector<int64_t> steps;
  for (const fs::path& entry : list_folder(root_)) {
    if (std::optional<int64_t> step = step_of(entry.filename().string())) steps.push_back(*step);
  }
  std::ranges::sort(steps);
  return steps;
}

void Store::recover(comm::Communicator& comm) const {
  comm::run_agreed(comm, [&] {
    if (comm.rank() != 0) return;
    create_folders(root_);
    for (const fs::path& entry : list_folder(root_)) recover_entry(entry);
  });
}

Choice Store::load_newest(comm::Communicator& comm, const std::function<void(int64_t)>& load) const {
  const std::vector<int64_t> found = steps_of_first_rank(comm, *this);
  Choice choice;
  for (int64_t step : found) {
    try {
      load(step);
      choice.step = step;
      return choice;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kIo) throw;
      choice.damage.push_back(
          fmt::format("checkpoint {} cannot be used: {}", step_folder_name(step), error.what()));
    }
  }
  check(found.empty(), ErrorKind::kIo,
        fmt::format("no checkpoint in {} is intact: {}", root_.string(), fmt::join(choice.damage, "; ")),
        "restore one from a copy, or move them away to begin afresh");
  return choice;
}

void Store::prune(const Retention& retention, int64_t newest) const {
  ensure(retention.keep_last >= 1, "checkpoint: at least one checkpoint is kept");
  std::vector<int64_t> counted = steps();
  std::erase_if(counted, [&](int64_t step) { return step > newest; });
  std::ranges::reverse(counted);
  for (size_t i = 0; i < counted.size(); ++i) {
    int64_t step = counted[i];
    bool is_recent = i < static_cast<size_t>(retention.keep_last) || step == newest;
    bool is_milestone = retention.keep_every > 0 && step % retention.keep_every == 0;
    bool is_named = std::ranges::find(retention.keep, step) != retention.keep.end();
    if (is_recent || is_milestone || is_named) continue;
    // Removing takes many steps; under its final name a folder must be whole at every moment.
    rename_durably(folder(step), partial_folder(folder(step)));
    remove_tree(partial_folder(folder(step)));
  }
}

}  // namespace tmd::checkpoint
