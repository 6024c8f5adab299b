#include "orchestrator/train.h"

#include <fmt/format.h>

#include "base/error.h"
#include "orchestrator/job.h"
#include "orchestrator/run_folder.h"
#include "orchestrator/run_watch.h"
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

}  // namespace

void train(comm::Communicator& world, const configs::Config& config, const configs::OptionTable& table,
           const TrainRequest& request) {
  // What the user may have got wrong is refused before the folder is touched.
  refuse_empty_stages(config);
  Job job(world, config);
  const RunFolder folder(world, request.run, table, request.allowed_changes);

  const auto watchdog = watch_run(world, folder, config.watchdog);
  if (job.is_trainer()) {
    Training training(job, folder, request, table.experiment_hash());
    training.start_or_resume();
    for (workers::Stage stage : config.stage_list()) {
      if (training.is_finished(stage)) continue;
      training.enter(stage);
      while (!training.is_finished(stage)) training.iterate();
    }
    training.finish();
  } else {
    job.serve_data();
  }
  job.close();
}

}  // namespace tmd::orchestrator
