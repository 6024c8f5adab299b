#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "checkpoint/background_save.h"
#include "checkpoint/reader.h"
#include "checkpoint/store.h"
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

/// Begins to write a checkpoint of all networks, optimizers, averages and counters, those that change most
/// often first; a network's group is its role's name. `changing`: networks that the next iteration updates.
/// Collective over: mesh.world(). Throws kIo on all ranks when it cannot begin; older checkpoints are then as
/// before.
std::unique_ptr<checkpoint::BackgroundSave> begin_checkpoint(
    const checkpoint::Store& store, const sharding::Mesh& mesh, uint64_t experiment_hash,
    workers::StageNetworks& networks, const RunCounters& counters, checkpoint::SaveHooks hooks = {},
    const std::vector<workers::NetworkRole>& changing = {});

/// Bytes of tensors that this rank writes into a checkpoint. No communication.
int64_t checkpoint_bytes(const sharding::Mesh& mesh, workers::StageNetworks& networks);

/// Makes the networks of the checkpoint's stage, fills them from it, whatever mesh has written it, and
/// returns the counters. Collective over: mesh.world(). Throws as checkpoint::load, and kData for an unknown
/// stage.
RunCounters load_checkpoint(const checkpoint::Store& store, int64_t step, const sharding::Mesh& mesh,
                            workers::StageNetworks& networks);

}  // namespace tmd::orchestrator
