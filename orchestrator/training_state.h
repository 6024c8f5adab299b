#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/reader.h"
#include "checkpoint/store.h"
#include "checkpoint/writer.h"
#include "workers/batch_feed.h"
#include "workers/stage_networks.h"

namespace tmd::orchestrator {

/// Counters of a run; together with the networks they are all that a resume needs. Equal on all ranks.
struct RunCounters {
  int64_t iteration = 0;  ///< finished ones, over the whole run
  int64_t student_updates = 0;
  int64_t nonfinite_in_row = 0, nonfinite_total = 0;
  std::vector<workers::BadSample> quarantine;
};

/// The `state` of a checkpoint: stage, counters, optimizer steps, quarantine.
nlohmann::json to_json(const RunCounters& counters, const workers::StageNetworks& networks);

/// Writes a checkpoint of all networks, optimizers, averages and counters. Collective over: mesh.world().
/// Throws kIo on all ranks when any cannot write; older checkpoints are then as before.
void save_checkpoint(const checkpoint::Store& store, const sharding::Mesh& mesh, uint64_t experiment_hash,
                     workers::StageNetworks& networks, const RunCounters& counters);

/// Which stage a checkpoint is of, before its networks are made. Reads its manifest, without communication.
/// Throws kIo when it is damaged or cannot be read, kData when it is of another version of the format or of
/// an unknown stage.
workers::Stage stage_of_checkpoint(const checkpoint::Store& store, int64_t step);

/// Fills networks that were allocated for the checkpoint's stage, and returns the counters.
/// Collective over: mesh.world(). Throws as checkpoint::load.
RunCounters load_checkpoint(const checkpoint::Store& store, int64_t step, const sharding::Mesh& mesh,
                            workers::StageNetworks& networks);

}  // namespace tmd::orchestrator
