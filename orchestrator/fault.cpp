#include "orchestrator/fault.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <fmt/format.h>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/folder.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/publish.h"

namespace tmd::orchestrator {
namespace {

constexpr std::array<std::string_view, 6> kKinds = {"kill", "stop", "throw", "nan", "slow", "enospc"};
constexpr std::array<std::string_view, 7> kPhaseNames = {"batch",   "compute", "reduce", "update",
                                                         "metrics", "write",   "commit"};
constexpr auto kSlow = std::chrono::seconds(5);

std::vector<std::string> fields_of(const std::string& text) {
  std::vector<std::string> fields(1);
  for (char c : text) {
    if (c == ':') {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
  return fields;
}

std::optional<int64_t> number(const std::string& text) {
  int64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_number = failure == std::errc{} && end == text.data() + text.size() && value >= 0;
  return is_number ? std::optional(value) : std::nullopt;
}

bool is_in(const auto& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

}  // namespace

Fault::Plan Fault::parse(const std::string& text) {
  const std::vector<std::string> fields = fields_of(text);
  const std::string form = "kind:rank:phase:step";
  check(fields.size() == 4, ErrorKind::kUsage, fmt::format("--fault {} is not {}", text, form));
  const auto rank = number(fields[1]), step = number(fields[3]);
  check(is_in(kKinds, fields[0]), ErrorKind::kUsage,
        fmt::format("--fault {}: unknown kind {}", text, fields[0]),
        "kinds: kill, stop, throw, nan, slow, enospc");
  check(is_in(kPhaseNames, fields[2]), ErrorKind::kUsage,
        fmt::format("--fault {}: unknown phase {}", text, fields[2]), fmt::format("phases: {}", kPhases));
  check(rank && step, ErrorKind::kUsage, fmt::format("--fault {}: rank and step are numbers", text));
  check(fields[0] != "nan" || fields[2] == "update", ErrorKind::kUsage,
        fmt::format("--fault {}: gradients are spoilt in phase update", text));
  const bool writes = fields[2] == "write" || fields[2] == "commit";
  check(fields[0] != "enospc" || writes, ErrorKind::kUsage,
        fmt::format("--fault {}: a disk is full in the phases write and commit", text));
  return {fields[0], static_cast<int>(*rank), fields[2], *step};
}

void Fault::check_text(const std::string& text, int trainers) {
  if (text.empty()) return;
  const Plan plan = parse(text);
  check(plan.rank < trainers, ErrorKind::kUsage,
        fmt::format("--fault {}: the ranks that train are 0 to {}", text, trainers - 1));
  check(plan.phase != "commit" || plan.rank == 0, ErrorKind::kUsage,
        fmt::format("--fault {}: rank 0 alone gives a checkpoint its name", text));
}

Fault::Fault(const std::string& text, int rank, std::filesystem::path run_folder) {
  if (text.empty()) return;
  const Plan plan = parse(text);
  mark_ = run_folder / "faults" / fmt::format("{:016x}", xxh3_64(std::as_bytes(std::span(text))));
  if (plan.rank == rank && !std::filesystem::exists(mark_)) plan_ = plan;
}

std::string Fault::take(const std::string& phase, int64_t step, bool spoils) {
  const std::scoped_lock lock(mutex_);
  if (!plan_ || plan_->phase != phase || plan_->step != step) return {};
  if ((plan_->kind == "nan") != spoils) return {};
  const std::string kind = plan_->kind;
  plan_.reset();
  leave_mark();
  log_warning("fault {} in phase {} of step {}", kind, phase, step);
  return kind;
}

void Fault::leave_mark() const {
  create_folders(mark_.parent_path());
  publish_file(mark_, std::string_view("fired\n"));
}

bool Fault::spoils(const std::string& phase, int64_t step) { return !take(phase, step, true).empty(); }

void Fault::reach(const std::string& phase, int64_t step) {
  const std::string kind = take(phase, step, false);
  if (kind == "kill") std::raise(SIGKILL);
  if (kind == "stop") std::raise(SIGSTOP);
  if (kind == "slow") std::this_thread::sleep_for(kSlow);
  if (kind == "throw")
    throw Error(ErrorKind::kInternal, fmt::format("fault in phase {} of step {}", phase, step));
  if (kind == "enospc")
    throw Error(ErrorKind::kIo, fmt::format("No space left on device (fault in phase {})", phase));
}

}  // namespace tmd::orchestrator
