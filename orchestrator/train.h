#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "configs/config.h"

namespace tmd::orchestrator {

struct TrainRequest {
  std::filesystem::path run;                 ///< run folder
  std::vector<std::string> allowed_changes;  ///< experiment keys that may differ from an earlier start
  int64_t console_every = 1;                 ///< iterations between lines on the console
  bool must_resume = false;                  ///< refuse to start where there is no checkpoint
  bool must_be_fresh = false;  ///< refuse to go on from a checkpoint; with must_resume: allow to start anew
  std::string fault;           ///< to inject (Fault); empty: none
  std::string title;           ///< shown in front of console lines, e.g. "TMD"; may be empty
};

/// Runs a job from its present state to its end: every stage of `config`, with checkpoints, metrics and
/// previews in the run folder. Called again for the same folder, it goes on from the newest intact
/// checkpoint. `config` is completed and is what `table` was declared over. Throws kConfig and kData for what
/// is refused at the start; on all trainers kData for more broken samples than `[data] max_bad`, kDiverged
/// for gradients that stay non-finite and for limits of `[alarm]`, kIo for a last checkpoint that cannot be
/// saved. Returns the exit code: 0, or kRequeue when a signal or a limit of time has ended it early, with its
/// state saved. Collective over: `world`.
int train(comm::Communicator& world, const configs::Config& config, const configs::OptionTable& table,
          const TrainRequest& request);

}  // namespace tmd::orchestrator
