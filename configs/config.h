#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "configs/option_table.h"
#include "method/samplers.h"
#include "model/discriminator.h"
#include "model/model_options.h"
#include "model/tmd_student.h"
#include "sharding/mesh.h"
#include "workers/device_options.h"
#include "workers/options.h"
#include "workers/stage_networks.h"

namespace tmd::configs {

/// `[run]`
struct RunOptions {
  uint64_t seed = 1;
  std::vector<std::string> stages = {"stage1", "stage2"};  ///< in order, from teacher, stage1, kd, stage2
  double max_minutes = 0;     ///< save and stop before this time has passed; 0 = no limit
  double stop_margin_s = 60;  ///< seconds before a limit that are kept free beside an iteration and a save
};

/// `[data]`
struct DataOptions {
  std::vector<std::string> files;  ///< tmd-latents files or globs, in order
  int64_t max_bad = 0;             ///< broken samples that are replaced before the run stops
  int64_t prefetch = 2;            ///< micro-batches read ahead per trainer
};

/// `[checkpoint]`
struct CheckpointOptions {
  int64_t every = 500;  ///< iterations; the end of a run is always saved
  bool async = true;    ///< write while training goes on
  int64_t keep_last = 2;
  int64_t keep_every = 0;  ///< also keep those whose iteration is a multiple; 0 = none
};

/// `[watchdog]`
struct WatchdogOptions {
  double deadline_s = 1800;  ///< blocked in one operation for longer: the run ends; 0 = never
};

/// `[sampler]`: how the teacher is sampled for previews, evaluation and `sample`.
struct SamplerOptions {
  enum class Solver { kEuler, kUniPc } solver = Solver::kEuler;
  int64_t steps = 50;
  double shift = 5, cfg = 5;
  method::SigmaGrid grid = method::SigmaGrid::kWan;
  method::ModelTime model_time = method::ModelTime::kInteger;
  int64_t skip_block = -1;  ///< block that the negative pass leaves out, from 0; -1 = none
  int64_t batch = 16;       ///< samples per rank that are computed at once, students too
};

/// `[preview]`
struct PreviewOptions {
  int64_t every = 0;    ///< iterations; 0 = only at the start and the end of a stage, -1 = never
  int64_t prompts = 4;  ///< the first ones of the data set
};

/// `[judge]`: what is looked at now and then while a run trains.
struct JudgeOptions {
  int64_t every = 0;     ///< iterations between looks at the weights; 0 = off
  int64_t samples = 64;  ///< of the student, to measure a checkpoint with
  std::string metric =
      "distance";  ///< number of the evaluator that says which is best; none or empty = no sampling
  bool keep_best = true;
};

/// `[alarm]`: limits of the student's samples against the data of their batch; 0 = off.
struct AlarmOptions {
  double min_diversity = 0;  ///< of diversity_ratio
  double min_std = 0;        ///< of std_ratio
  double min_motion = 0;     ///< of motion_ratio
  double max_rms = 10;       ///< of x_hat_rms / data_rms
  int64_t patience = 20;     ///< student iterations in a row
};

/// `[decoder]`: weights that turn latents of Wan's VAE into pictures; the best one given is used.
struct DecoderOptions {
  std::string vae;   ///< safetensors file of the Wan2.1 VAE, original or diffusers names
  std::string taew;  ///< safetensors file of TAEW2.1, a small substitute
};

/// Every setting of a run.
struct Config {
  RunOptions run;
  model::ModelOptions model;
  workers::TrainOptions train;
  workers::DeviceOptions device;
  workers::StageOptions stages;
  model::TmdStudentConfig student;           ///< head_blocks 0 = the default of the depth
  model::DiscriminatorConfig discriminator;  ///< channels and heads follow from the model
  std::vector<int64_t> feature_blocks;       ///< empty = the default of the depth
  sharding::MeshShape mesh;
  int64_t data_workers = 0;
  DataOptions data;
  CheckpointOptions checkpoint;
  WatchdogOptions watchdog;
  SamplerOptions sampler;
  PreviewOptions preview;
  JudgeOptions judge;
  AlarmOptions alarm;
  DecoderOptions decoder;

  Config();
  /// The stages in order. Throws kConfig for an unknown name, a wrong order, or a stage that the method
  /// lacks.
  std::vector<workers::Stage> stage_list() const;
  int64_t iterations(workers::Stage stage) const;
  /// Of all stages of stage_list, whose errors it throws.
  int64_t total_iterations() const;
};

/// The table that declares every option, over the variables of `config`, which must outlive it.
std::unique_ptr<OptionTable> declare_options(Config& config);

/// What the options imply together: grids (method::student_grid), discriminator channels, head blocks,
/// feature blocks. Throws kConfig for values that contradict each other, and as Config::stage_list.
void complete(Config& config);

/// Throws kConfig when the options do not go with the mesh that the run has.
void check_mesh(const Config& config, const sharding::MeshShape& mesh);

/// Networks of a completed configuration; copies what it takes.
workers::NetworkPlan network_plan(const Config& config);

/// Throws kConfig when `sampler.skip_block` names no block of the model, or has no negative pass to leave it
/// out of.
void check_skip_block(const SamplerOptions& sampler, const model::ModelOptions& model);

}  // namespace tmd::configs
