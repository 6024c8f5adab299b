#pragma once

#include <functional>
#include <memory>

#include "comm/communicator.h"
#include "comm/watchdog.h"
#include "configs/config.h"
#include "orchestrator/run_folder.h"

namespace tmd::orchestrator {

/// Watches over a run from here on: journals of all ranks lie in the run folder; when this rank has been
/// blocked for longer than the deadline it prints which rank is late and where, writes that to verdict.json
/// and ends all ranks with exit code 76, after it has called `let_go` (of devices that wait for a peer),
/// which may not block for long. Null when there is nobody to wait for or the deadline is 0. Throws kIo on
/// all ranks. Collective over: `world`.
std::unique_ptr<comm::Watchdog> watch_run(comm::Communicator& world, const RunFolder& folder,
                                          const configs::WatchdogOptions& options,
                                          std::function<void()> let_go);

}  // namespace tmd::orchestrator
