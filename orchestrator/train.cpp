#include "orchestrator/train.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"
#include "base/folder.h"
#include "comm/agree.h"
#include "orchestrator/doctor.h"
#include "orchestrator/job.h"
#include "orchestrator/run_folder.h"
#include "orchestrator/run_watch.h"
#include "orchestrator/stop_request.h"
#include "orchestrator/training.h"

namespace tmd::orchestrator {
namespace {

void refuse_empty_stages(const configs::Config& config) {
  for (workers::Stage stage : config.stage_list()) {
    check(config.iterations(stage) >= 1, ErrorKind::kConfig,
          fmt::format("run.stages names {0}, and {0}.iterations is 0", name(stage)),
          fmt::format("set {}.iterations, or leave the stage out of run.stages", name(stage)));
  }
}

// Both before the folder is touched. A checkpoint that was being replaced counts (Store::recover).
void refuse_unwanted_start(const TrainRequest& request) {
  const std::filesystem::path folder = request.run / "checkpoints";
  const auto is_checkpoint = [](const std::filesystem::path& path) {
    return path.filename().string().starts_with("step_") && path.extension() != ".partial";
  };
  const bool has_any = std::ranges::any_of(list_folder(folder), is_checkpoint);
  check(has_any || !request.must_resume || request.must_be_fresh, ErrorKind::kConfig,
        fmt::format("there is no checkpoint in {} to resume from", folder.string()),
        "is it the right --run folder? Without --resume, or with --fresh beside it, the run starts anew");
  check(!has_any || !request.must_be_fresh || request.must_resume, ErrorKind::kConfig,
        fmt::format("{} holds checkpoints: --fresh does not write over them", folder.string()),
        "give another --run folder, or leave --fresh out to go on from the newest");
}

}  // namespace

int train(comm::Communicator& world, const configs::Config& config, const configs::OptionTable& table,
          const TrainRequest& request) {
  // What the user may have got wrong is refused before the folder is touched.
  refuse_empty_stages(config);
  const StopRequest stop(config.run);
  Job job(world, config);
  comm::run_agreed(world, [&] {
    Fault::check_text(request.fault, world.size() - static_cast<int>(config.data_workers));
    if (world.rank() == 0) refuse_unwanted_start(request);
  });
  const RunFolder folder(world, request.run, table, request.allowed_changes);

  log_problems(quick_findings(world, folder.path(), job.config()));

  bool is_early = false;
  const auto watchdog = watch_run(world, folder, config.watchdog, [&job] { job.abort_devices(); });
  if (job.is_trainer()) {
    Training training(job, folder, request, stop, table.experiment_hash());
    training.start_or_resume();
    for (workers::Stage stage : config.stage_list()) {
      if (training.is_finished(stage)) continue;
      training.enter(stage);
      while (!training.is_finished(stage) && training.stops() == StopReason::kNone) training.iterate();
      if (training.stops() != StopReason::kNone) break;
    }
    training.finish();
    is_early = training.is_early();
  } else {
    job.serve_data();
  }
  job.close();
  // Data workers learn it here.
  return comm::agree_any(world, is_early) ? static_cast<int>(ErrorKind::kRequeue) : 0;
}

}  // namespace tmd::orchestrator
