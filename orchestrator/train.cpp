#include "orchestrator/train.h"

#include "orchestrator/job.h"
#include "orchestrator/run_folder.h"
#include "orchestrator/training.h"

namespace tmd::orchestrator {

void train(comm::Communicator& world, const configs::Config& config, const configs::OptionTable& table,
           const TrainRequest& request) {
  // Everything that the user may have got wrong is refused before the folder is touched.
  Job job(world, config);
  const RunFolder folder(world, request.run, table, request.allowed_changes);

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
