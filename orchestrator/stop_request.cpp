#include "orchestrator/stop_request.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <fmt/format.h>
#include <string_view>

#include "base/error.h"

namespace tmd::orchestrator {
namespace {

constexpr std::array<int, 3> kSignals = {SIGTERM, SIGUSR1, SIGUSR2};

// A handler can reach nothing else.
volatile std::sig_atomic_t caught_signal = 0;

void note(int signal) { caught_signal = signal; }

std::chrono::system_clock::time_point end_of_environment() {
  using Clock = std::chrono::system_clock;
  const char* text = std::getenv("TMD_END_TIME");
  if (!text || !*text) return Clock::time_point::max();
  const std::string_view view(text);
  int64_t seconds = 0;
  const auto [end, failure] = std::from_chars(view.data(), view.data() + view.size(), seconds);
  check(failure == std::errc{} && end == view.data() + view.size() && seconds >= 0, ErrorKind::kConfig,
        fmt::format("TMD_END_TIME = {} is no number of seconds since 1970", view),
        "export TMD_END_TIME=$(date -d \"$(squeue -h -j $SLURM_JOB_ID -o %e)\" +%s), or unset it");
  return Clock::time_point(std::chrono::seconds(seconds));
}

}  // namespace

std::string name(StopReason reason) {
  if (reason == StopReason::kSignal) return "signal";
  return reason == StopReason::kWallLimit ? "wall_limit" : "";
}

StopRequest::StopRequest(const configs::RunOptions& options) : margin_s_(options.stop_margin_s) {
  end_ = end_of_environment();
  if (options.max_minutes > 0) {
    const auto limit = std::chrono::duration<double>(60 * options.max_minutes);
    end_ = std::min(end_, Clock::now() + std::chrono::duration_cast<Clock::duration>(limit));
  }
  caught_signal = 0;
  for (int signal : kSignals) std::signal(signal, note);
}

StopRequest::~StopRequest() {
  for (int signal : kSignals) std::signal(signal, SIG_DFL);
}

double StopRequest::seconds_left() const {
  return std::chrono::duration<double>(end_ - Clock::now()).count();
}

bool StopRequest::signalled() { return caught_signal != 0; }

StopReason StopRequest::reason(double needed_s) const {
  if (signalled()) return StopReason::kSignal;
  const bool is_limited = end_ != Clock::time_point::max();
  return is_limited && seconds_left() < needed_s + margin_s_ ? StopReason::kWallLimit : StopReason::kNone;
}

std::string StopRequest::text(StopReason reason) const {
  if (reason == StopReason::kWallLimit)
    return fmt::format("the limit of time is {:.0f} s away", seconds_left());
  if (signalled()) return fmt::format("signal {} on this rank", static_cast<int>(caught_signal));
  return "signal on another rank";
}

}  // namespace tmd::orchestrator
