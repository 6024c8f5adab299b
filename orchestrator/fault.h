#pragma once

#include <filesystem>
#include <mutex>
#include <optional>
#include <string>

#include "comm/communicator.h"

namespace tmd::orchestrator {

/// A failure that is asked for: `--fault kind:rank:phase:step`, to see what a run does then.
///
///   kill    SIGKILL           stop    SIGSTOP           throw  an exception
///   nan     a gradient that is no number (phase update)
///   slow    the rank sleeps 5 s                          enospc a full disk (phases write, commit)
///
/// It fires once in a run folder, so that the same command can be started again.
class Fault {
 public:
  /// `text` as above, empty for none; `rank` is this one, of the trainers. Throws kUsage for another form.
  Fault(const std::string& text, int rank, std::filesystem::path run_folder);

  /// Throws kUsage for a fault that cannot fire: another form, no rank of the `trainers`, a phase that the
  /// rank does not have.
  static void check_text(const std::string& text, int trainers);
  static constexpr const char* kPhases = "batch, compute, reduce, update, metrics, write, commit";

  /// Fires when this is the moment. Thread: any. Throws kIo (enospc) or kInternal (throw).
  void reach(const std::string& phase, int64_t step);
  /// The same for `nan`: whether a gradient is to be spoilt now.
  bool spoils(const std::string& phase, int64_t step);

 private:
  struct Plan {
    std::string kind;
    int rank = 0;
    std::string phase;
    int64_t step = 0;
  };
  static Plan parse(const std::string& text);
  /// The kind, if this is the moment; it is then over.
  std::string take(const std::string& phase, int64_t step, bool spoils);
  void leave_mark() const;

  std::mutex mutex_;          // guards plan_
  std::optional<Plan> plan_;  // if this rank is the one
  std::filesystem::path mark_;
};

}  // namespace tmd::orchestrator
