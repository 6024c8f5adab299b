#include "comm/watchdog.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <pthread.h>
#include <unistd.h>

#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"
#include "base/log.h"

namespace tmd::comm {
namespace {

namespace fs = std::filesystem;

// Ranks find out one after the other, so that one of them tells the verdict and ends all.
constexpr double kTurn_s = 0.3;

double now_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// The letter of /proc/PID/stat, 0 when there is no such process.
char process_state(int64_t pid) {
  std::FILE* file = std::fopen(fmt::format("/proc/{}/stat", pid).c_str(), "r");
  if (!file) return 0;
  char text[512] = {};
  const size_t length = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  const std::string stat(text, length);
  const size_t end_of_name = stat.rfind(')');  // the name may hold anything
  return end_of_name == std::string::npos || end_of_name + 2 >= stat.size() ? 0 : stat[end_of_name + 2];
}

std::string this_host() {
  char name[64] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

std::optional<JournalEntry> entry_of(const JournalContent& journal, uint64_t sequence) {
  const auto found = std::ranges::find(journal.entries, sequence, &JournalEntry::sequence);
  return found == journal.entries.end() ? std::nullopt : std::optional(*found);
}

std::string place_text(const JournalContent& journal) {
  return journal.phase.empty() ? "" : fmt::format(" in phase '{}'", journal.phase);
}

std::string operation_text(const JournalEntry& entry) {
  std::string text =
      fmt::format("{} on '{}' ({} elements", name(entry.kind), entry.communicator, entry.elements);
  if (entry.peer >= 0) text += fmt::format(", peer {}", entry.peer);
  return text + ")";
}

std::string what_it_does(const Standing& one) {
  if (!one.has_journal) return "has left no journal";
  std::string text = one.is_gone      ? "is gone"
                     : one.is_stopped ? "is stopped"
                     : one.awaited    ? "waits in " + operation_text(*one.awaited)
                                      : "waits for nothing";
  text += place_text(one.journal);
  if (!one.awaited && !one.journal.entries.empty()) {
    text += fmt::format("; its last operation was {}", operation_text(one.journal.entries.back()));
  }
  return text;
}

std::string ranks_text(const std::vector<int>& ranks) {
  return fmt::format("rank{} {}", ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "));
}

// Where it waits, so that ranks at the same place fall together. The count of elements differs between ranks
// of a gather of unequal parts: it does not belong to the place.
std::string awaited_place(const Standing& one) {
  return fmt::format("{} {}", name(one.awaited->kind), one.awaited->communicator);
}

std::vector<int> late_ranks(const std::vector<Standing>& all) {
  std::vector<int> lost, idle;
  std::map<std::string, std::vector<int>> places;
  for (const Standing& one : all) {
    if (!one.has_journal || one.is_gone || one.is_stopped) {
      lost.push_back(one.rank);
    } else if (!one.awaited) {
      idle.push_back(one.rank);
    } else {
      places[awaited_place(one)].push_back(one.rank);
    }
  }
  if (!lost.empty()) return lost;
  if (!idle.empty() || places.size() < 2) return idle;
  const auto fewest = std::ranges::min_element(places, {}, [](const auto& p) { return p.second.size(); });
  const auto most = std::ranges::max_element(places, {}, [](const auto& p) { return p.second.size(); });
  return fewest->second.size() < most->second.size() ? fewest->second : std::vector<int>();
}

}  // namespace

fs::path journal_file(const fs::path& folder, int rank) {
  return folder / fmt::format("rank_{:05}.journal", rank);
}

std::vector<Standing> standings(const fs::path& folder, int ranks) {
  std::vector<Standing> all;
  for (int rank = 0; rank < ranks; ++rank) {
    Standing& one = all.emplace_back();
    one.rank = rank;
    try {
      one.journal = read_journal(journal_file(folder, rank));
      one.has_journal = true;
    } catch (const std::exception&) {
      continue;
    }
    one.awaited = entry_of(one.journal, one.journal.awaited);
    if (one.journal.host != this_host()) continue;
    const char state = process_state(one.journal.pid);
    one.is_gone = state == 0 || state == 'Z' || state == 'X';
    one.is_stopped = state == 'T' || state == 't';
  }
  return all;
}

Verdict judge(const std::vector<Standing>& all) {
  Verdict verdict{.late = late_ranks(all), .text = {}};
  std::map<std::string, std::vector<int>> groups;  // by what they do
  for (const Standing& one : all) groups[what_it_does(one)].push_back(one.rank);
  const auto is_late = [&](int rank) { return std::ranges::find(verdict.late, rank) != verdict.late.end(); };
  std::vector<std::string> late, others;
  for (const auto& [what, ranks] : groups) {
    (is_late(ranks.front()) ? late : others).push_back(ranks_text(ranks) + " " + what);
  }
  late.insert(late.end(), others.begin(), others.end());
  verdict.text = fmt::format("{}", fmt::join(late, "\n"));
  return verdict;
}

Watchdog::Watchdog(Journal& journal, Options options, Act act)
    : journal_(journal), options_(std::move(options)), act_(std::move(act)) {
  journal_.move_to_file(journal_file(options_.folder, options_.rank), options_.rank);
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  ending_.notify_all();
  thread_.join();
}

void Watchdog::watch() {
  pthread_setname_np(pthread_self(), "tmd-watchdog");
  const double own_deadline = options_.deadline_s + kTurn_s * options_.rank;
  const std::chrono::duration<double> pause(std::clamp(options_.deadline_s / 10, 0.05, 5.0));
  std::unique_lock lock(mutex_);
  while (!ending_.wait_for(lock, pause, [this] { return ends_; })) {
    const double since = journal_.waiting_since_s();
    if (since == 0 || now_s() - since < own_deadline) continue;
    act_(judge(standings(options_.folder, options_.ranks)));
    return;
  }
}

}  // namespace tmd::comm
