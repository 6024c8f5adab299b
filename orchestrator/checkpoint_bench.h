#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "comm/communicator.h"
#include "sharding/mesh.h"

namespace tmd::orchestrator {

struct CheckpointBenchPlan {
  std::string preset = "small";  ///< as of StepBenchPlan
  sharding::MeshShape mesh;
  int64_t iterations = 3;        ///< at least, without a save and with each
  int64_t repeats = 3;           ///< saves and loads
  std::filesystem::path folder;  ///< where checkpoints are written; removed again
};

/// What checkpoints cost a run: networks of stage 2 without a discriminator (teacher, student, fake score) on
/// the sizes of `tmd bench step`, and an iteration that trains the student with AdamW. Times in seconds, of
/// the slowest rank.
struct CheckpointBench {
  int ranks = 1;
  double bytes = 0;                    ///< of a checkpoint
  std::vector<double> step_s;          ///< iterations while nothing is saved
  std::vector<double> step_in_save_s;  ///< iterations while a checkpoint is written
  std::vector<double> held_s;          ///< of the loop, by each save
  std::vector<double> save_s;          ///< from its begin to its end
  std::vector<double> allocate_s;      ///< networks made for a load, their moments and gradients zeroed
  std::vector<double> load_s;          ///< with warm file caches, into networks that are there
  std::vector<double> read_s;          ///< the same files read into fresh memory
  double extra_bytes = 0;              ///< resident at most, more than without saves; worst rank
  double network_bytes = 0;            ///< that a rank writes of one trained network

  nlohmann::json json() const;
  std::string table() const;
};

/// Throws kConfig when the mesh does not fit the ranks, kIo. Collective over: `world`.
CheckpointBench measure_checkpoints(comm::Communicator& world, const CheckpointBenchPlan& plan);

}  // namespace tmd::orchestrator
