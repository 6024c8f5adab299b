#pragma once

#include <chrono>
#include <string>

#include "configs/config.h"

namespace tmd::orchestrator {

/// Why a run ends before its last iteration; the larger one counts when ranks differ.
enum class StopReason : int { kNone = 0, kWallLimit = 1, kSignal = 2 };
/// "signal", "wall_limit"; empty for kNone.
std::string name(StopReason reason);

/// What asks this process to save and stop: the signals SIGTERM, SIGUSR1 and SIGUSR2, and the limits of time
/// of `[run] max_minutes` and of the environment, TMD_END_TIME (seconds since 1970). While it lives, the
/// signals end nothing. At most one at a time. Thread: any.
class StopRequest {
 public:
  /// Throws kConfig for a TMD_END_TIME that is no number.
  explicit StopRequest(const configs::RunOptions& options);
  ~StopRequest();
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;

  /// Whether to stop now, when going on would take `needed_s` seconds until the next chance.
  StopReason reason(double needed_s) const;
  static bool signalled();

  /// "signal 15 on this rank", "the limit of time is 84 s away".
  std::string text(StopReason reason) const;

 private:
  using Clock = std::chrono::system_clock;
  double seconds_left() const;  // of the nearest limit, without the margin

  const double margin_s_;
  Clock::time_point end_ = Clock::time_point::max();
};

}  // namespace tmd::orchestrator
