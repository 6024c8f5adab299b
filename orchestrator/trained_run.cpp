#include "orchestrator/trained_run.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/log.h"
#include "comm/agree.h"

namespace tmd::orchestrator {
namespace {

namespace fs = std::filesystem;

struct Place {
  fs::path run;
  std::optional<int64_t> step;
};

std::optional<fs::path> run_of_checkpoint(const fs::path& folder) {
  const bool is_checkpoint =
      folder.filename().string().rfind("step_", 0) == 0 && fs::exists(folder / checkpoint::kManifestName);
  return is_checkpoint ? std::optional(folder.parent_path().parent_path()) : std::nullopt;
}

// RUN, RUN/checkpoints/step_00002000 or RUN/checkpoints/BEST.
fs::path named_place(const fs::path& folder) {
  const fs::path given = plain_path(folder);
  std::error_code none;
  const fs::path target = fs::read_symlink(given, none);
  return given.filename() == "BEST" && !none ? given.parent_path() / target : given;
}

Place find_place(const fs::path& folder) {
  const fs::path given = named_place(folder);
  Place place{given, std::nullopt};
  if (const auto run = run_of_checkpoint(given)) {
    place.run = *run;
    place.step = checkpoint::read_manifest(given).description.step;
  }
  check(fs::exists(place.run / "config.ini"), ErrorKind::kData,
        fmt::format("{} is no run folder", folder.string()),
        "name the folder of `tmd train --run DIR`, or one of its checkpoints/step_*");
  return place;
}

// The run's mesh, or, for another number of ranks, all of them as shards: what is computed does not depend on
// it.
void fit_mesh(configs::Config& config, int ranks) {
  try {
    mesh_of(config, ranks);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kConfig) throw;
    config.mesh = {};
  }
}

}  // namespace

bool is_run(const fs::path& folder) {
  const fs::path given = named_place(folder);
  return run_of_checkpoint(given).has_value() || fs::exists(given / "config.ini");
}

TrainedRun::TrainedRun(comm::Communicator& trainers, const fs::path& folder, std::vector<std::string> words) {
  Place place;
  comm::run_agreed(trainers, [&] {
    place = find_place(folder);
    words.push_back("--mesh.data_workers=0");
    loaded_ = load_config({(place.run / "config.ini").string()}, words);
    check(loaded_->other_words.empty(), ErrorKind::kUsage,
          loaded_->other_words.empty() ? "" : "unexpected word " + loaded_->other_words.front());
    // Only the training batch has to be dealt evenly; here nothing is trained.
    loaded_->config.train.global_batch = trainers.size();
    fit_mesh(loaded_->config, trainers.size());
  });
  job_ = std::make_unique<Job>(trainers, loaded_->config);
  run_folder_ = place.run;
  networks_ = std::make_unique<workers::StageNetworks>(job_->plan(), loaded_->config.stages, job_->mesh(),
                                                       job_->type(), loaded_->config.run.seed,
                                                       /*keep_blocks=*/0, job_->device());
  const checkpoint::Store store(place.run / "checkpoints");
  const auto load = [&](int64_t step) { load_checkpoint(store, step, job_->mesh(), *networks_); };
  if (place.step) {
    load(*place.step);
  } else {
    const checkpoint::Choice choice = store.load_newest(trainers, load);
    for (const std::string& damage : choice.damage) {
      if (trainers.rank() == 0) log_warning("{}", damage);
    }
    check(choice.step.has_value(), ErrorKind::kData,
          fmt::format("{} has no checkpoint yet", place.run.string()));
    place.step = choice.step;
  }
  step_ = *place.step;
}

sharding::ShardedNetwork* TrainedRun::student() {
  using workers::NetworkRole;
  return networks_->has(NetworkRole::kStudent) ? &networks_->network(NetworkRole::kStudent) : nullptr;
}

void TrainedRun::use_average() {
  const auto role = student() ? workers::NetworkRole::kStudent : workers::NetworkRole::kTeacher;
  workers::TrainedNetwork& trained = networks_->at(role);
  check(trained.average != nullptr, ErrorKind::kConfig, "the run keeps no average of the weights",
        "train with an ema decay above 0 in the stage's section");
  trained.average->swap(*trained.network);
}

void TrainedRun::close() { job_->close(); }

}  // namespace tmd::orchestrator
