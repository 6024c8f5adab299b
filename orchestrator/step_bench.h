#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "comm/communicator.h"
#include "model/wan_config.h"
#include "sharding/mesh.h"
#include "workers/device_options.h"

namespace tmd::orchestrator {

/// Sizes of a network and of a sample, by name.
struct StepPreset {
  model::WanConfig wan;
  int64_t frames = 1, height = 2, width = 2;  ///< of a latent
};
/// "tiny", "small", "wide", and "wan1.3b": the published network with latents of 81 frames of 480 x 832.
/// Throws kUsage for another name.
StepPreset step_preset(const std::string& name);

struct StepBenchPlan {
  std::string preset = "small";
  std::string mode = "both";  ///< "student", "critic", "both", "plain" or "bare"
  at::ScalarType type = at::kFloat;
  sharding::MeshShape mesh;
  int64_t batch = 1;   ///< samples of each stream
  int64_t warmup = 1;  ///< iterations that are not measured
  int64_t measured = 3;
  int64_t keep_blocks = 0;
  int64_t threads = 1;
  workers::DeviceOptions device{.kind = workers::DeviceOptions::Kind::kCpu};
  /// After the warm-up nothing is communicated any more: what a step takes without that. Losses have no
  /// meaning.
  bool mute = false;
  uint64_t seed = 1234;
};

/// One distillation-shaped job on networks without weights of anybody, measured.
///
/// Three networks of one configuration, a frozen teacher, a student and a fake score. A student step is the
/// student's forward and backward pass, the fake score's forward pass, the teacher's two (text and negative)
/// and AdamW; a critic step the student's forward pass without gradients, the fake score's forward and
/// backward pass and AdamW; plain is one network with forward and backward pass and AdamW, and bare is the
/// same without the sharding engine (BareWan). Weights and data are functions of the seed and of names and
/// sample numbers, drawn by LibTorch's generator, so that a program in Python can do the same work
/// (scripts/peer).
struct StepBench {
  int ranks = 1;
  std::vector<double> iteration_s;  ///< of the slowest rank
  /// The same by step; of plain and bare also "passes", the step without its optimizer.
  std::map<std::string, std::vector<double>> step_s;
  std::vector<std::map<std::string, double>>
      losses;  ///< of every iteration, warm-up included: mean over samples
  double gather_exposed_s = 0, reduce_exposed_s = 0,
         exchange_exposed_s = 0;  ///< rank 0, per measured iteration
  double ready_s = 0;             ///< from the start of the slowest process to networks that are filled
  double resident_before = 0;     ///< bytes before the networks are made, worst rank
  double peak_added = 0;          ///< peak of the resident bytes less those before, worst rank
  double device_bytes = 0;        ///< taken of the device's memory at the end, worst rank; 0 on CPUs
  std::string device;             ///< "cpu", "cuda"
  std::string counted;            ///< rank 0: what the tensors took at their peak, by item
  int64_t parameters = 0;         ///< of one network
  int64_t tokens = 0;             ///< of one sample
  double flops_forward = 0;       ///< of one network and one sample (Wan 6.1)

  nlohmann::json json(const StepBenchPlan& plan) const;
  std::string table(const StepBenchPlan& plan) const;
};

/// Throws kConfig when the mesh does not fit the ranks or the heads, and as BareWan.
/// Collective over: `world`.
StepBench measure_steps(comm::Communicator& world, const StepBenchPlan& plan);

}  // namespace tmd::orchestrator
