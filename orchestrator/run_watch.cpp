#include "orchestrator/run_watch.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/log.h"
#include "comm/agree.h"

namespace tmd::orchestrator {
namespace {

constexpr int kLostPeer = static_cast<int>(ErrorKind::kPeerLost);

void write_verdict(const RunFolder& folder, const comm::Verdict& verdict) {
  try {
    folder.publish_verdict(ErrorKind::kPeerLost, "peer_hangs", verdict.text, verdict.late);
  } catch (const std::exception& e) {
    log_error("the verdict cannot be written: {}", e.what());  // it has been printed
  }
}

}  // namespace

std::unique_ptr<comm::Watchdog> watch_run(comm::Communicator& world, const RunFolder& folder,
                                          const configs::WatchdogOptions& options,
                                          std::function<void()> let_go) {
  if (world.size() == 1 || options.deadline_s == 0) return nullptr;
  const auto act = [&world, &folder, deadline = options.deadline_s,
                    let_go = std::move(let_go)](const comm::Verdict& verdict) {
    log_error("no progress for {:.0f} s (exit code {}):\n{}", deadline, kLostPeer, verdict.text);
    log_error(
        "hint: start the same command again to go on from the last checkpoint; watchdog.deadline_s sets "
        "the patience");
    write_verdict(folder, verdict);
    let_go();
    world.abort(kLostPeer);
  };
  std::unique_ptr<comm::Watchdog> watchdog;
  comm::run_agreed(world, [&] {
    watchdog = std::make_unique<comm::Watchdog>(*world.journal(),
                                                comm::Watchdog::Options{.folder = folder.journals(),
                                                                        .rank = world.rank(),
                                                                        .ranks = world.size(),
                                                                        .deadline_s = options.deadline_s},
                                                act);
  });
  return watchdog;
}

}  // namespace tmd::orchestrator
