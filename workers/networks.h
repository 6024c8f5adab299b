#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "method/generator.h"
#include "method/networks.h"
#include "model/discriminator.h"
#include "model/model_options.h"
#include "model/tmd_student.h"
#include "sharding/mesh.h"
#include "sharding/sharded_network.h"
#include "workers/options.h"

namespace tmd::workers {

/// What the networks of a run look like: model, student and discriminator (configs::network_plan).
struct NetworkPlan {
  model::ModelOptions model;
  model::TmdStudentConfig student;  ///< its `wan` is the model's
  model::DiscriminatorConfig discriminator;
  std::vector<int64_t> feature_blocks;  ///< teacher blocks that the discriminator reads, ascending, from 0

  /// Units of each network from the plan alone; nothing is allocated.
  std::vector<sharding::UnitSpec> velocity_units() const;
  std::vector<sharding::UnitSpec> student_units() const;  ///< of the decoupled student: those and the fusion
  std::vector<sharding::UnitSpec> discriminator_units() const;
  int64_t layers() const;       ///< L of TMD Eq. 16; hidden_layers for the perceptron
  int64_t head_blocks() const;  ///< H of TMD Eq. 16; 1 for the perceptron
};

// Put a sharded network behind the method's interface (method/networks.h), where times are 0 to 1. A view
// keeps a reference to `network` and none to `plan`. `weight_gradients`: whether the parameters collect
// gradients in passes through this view; several views of one network may exist.
// Calls of a view throw kData when latents or text do not fit the Wan model. Each of them, and the backward
// pass through it: Collective over: the network's copy group.

/// `network` has velocity_units (or more). The perceptron ignores the text; it throws kInternal when it is
/// asked for features, and kConfig when a block is to be left out.
std::unique_ptr<method::VelocityNetwork> velocity_view(const NetworkPlan& plan,
                                                       sharding::ShardedNetwork& network,
                                                       bool weight_gradients);
/// `network` has student_units. For MeanFlow the head is u(x_t, t, r; c), and what stands for the backbone
/// only embeds the text.
std::unique_ptr<method::StudentNetwork> student_view(const NetworkPlan& plan,
                                                     sharding::ShardedNetwork& network,
                                                     bool weight_gradients);
/// `network` has discriminator_units. Throws kInternal for another number of maps than heads.
std::unique_ptr<method::DiscriminatorNetwork> discriminator_view(const NetworkPlan& plan,
                                                                 sharding::ShardedNetwork& network,
                                                                 bool weight_gradients);

/// The generator of a method over its student, with what it refers to: the rollout of the flow head on the
/// inner grid of `method` (TMD Eq. 12 to 15; for plain TM Euler steps with r = s), for DMD2-v the velocity
/// network (TMD Eq. 17), for MeanFlow the average velocity.
class GeneratorView {
 public:
  /// Keeps a reference to `student`, as the views above do.
  GeneratorView(const NetworkPlan& plan, const MethodOptions& method, sharding::ShardedNetwork& student,
                bool weight_gradients);
  /// Valid as long as this object.
  method::Generator& generator() { return *generator_; }

 private:
  std::unique_ptr<method::StudentNetwork> student_;
  std::unique_ptr<method::VelocityNetwork> velocity_;
  std::unique_ptr<method::Generator> generator_;
};

/// True when the student has a flow head behind a backbone, false when it is a velocity network (DMD2-v,
/// MeanFlow).
bool is_decoupled(MethodName method);
/// True when the student is a network of student_units: it is told s - r, or for MeanFlow t - r.
bool has_interval(MethodName method);

}  // namespace tmd::workers
