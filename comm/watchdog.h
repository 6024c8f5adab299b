#pragma once

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/journal.h"

namespace tmd::comm {

/// Where one process stands, as its journal tells.
struct Standing {
  int rank = 0;
  bool has_journal = false;  ///< false: the file is missing or broken
  bool is_gone = false;      ///< no such process, on this host
  bool is_stopped = false;   ///< by a signal or a debugger, on this host
  JournalContent journal;
  /// The operation that its host is blocked in, if any.
  std::optional<JournalEntry> awaited;
};

/// File of a rank's journal below `folder`.
std::filesystem::path journal_file(const std::filesystem::path& folder, int rank);

/// Reads the journals of all ranks; never throws.
std::vector<Standing> standings(const std::filesystem::path& folder, int ranks);

/// What holds the program up.
struct Verdict {
  std::vector<int> late;  ///< ranks that the others wait for; empty when that cannot be told
  std::string text;       ///< one sentence for each group of ranks, ready to print
};
/// Ranks that are gone or stopped are to blame; else those that wait for nothing; else, when all wait, those
/// whose collective is not that of the most.
Verdict judge(const std::vector<Standing>& standings);

/// Ends the program when it makes no progress.
///
/// A thread of its own looks at the journal of this process. When the host has been blocked in one operation
/// for longer than the deadline it reads the journals of all ranks, tells which rank is late, where it is and
/// what the others wait for, and acts. It calls no library and takes no lock of others; a rank that is
/// stopped itself can do nothing, its peers speak for it.
class Watchdog {
 public:
  struct Options {
    std::filesystem::path folder;  ///< of the journals of all ranks, on a file system that all see
    int rank = 0;
    int ranks = 1;
    double deadline_s = 600;
  };
  /// Called once, on the watchdog's thread; does not return if it ends the program.
  using Act = std::function<void(const Verdict&)>;

  /// Moves `journal`, which must outlive this, into the folder. Throws kIo as Journal::move_to_file.
  Watchdog(Journal& journal, Options options, Act act);
  /// Ends the thread. No communication.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void watch();

  Journal& journal_;
  Options options_;
  Act act_;
  std::mutex mutex_;
  std::condition_variable ending_;
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace tmd::comm
