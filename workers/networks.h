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

/// What the networks of a run look like: model, student and discriminator.
struct NetworkPlan {
  model::ModelOptions model;
  model::TmdStudentConfig student;  ///< its `wan` is the model's
  model::DiscriminatorConfig discriminator;
  std::vector<int64_t> feature_blocks;

  /// Units of each network from the plan alone; nothing is allocated.
  std::vector<sharding::UnitSpec> velocity_units() const;
  std::vector<sharding::UnitSpec> student_units() const;  ///< of the decoupled student
  std::vector<sharding::UnitSpec> discriminator_units() const;
  int64_t layers() const;  ///< L for the effective number of evaluations; 1 for the perceptron
  int64_t head_blocks() const;
};

/// Puts a sharded network behind the method's interface. `weight_gradients`: whether its parameters collect
/// gradients in passes through this view; several views of one network may exist.
std::unique_ptr<method::VelocityNetwork> velocity_view(const NetworkPlan& plan,
                                                       sharding::ShardedNetwork& network,
                                                       bool weight_gradients);
std::unique_ptr<method::StudentNetwork> student_view(const NetworkPlan& plan,
                                                     sharding::ShardedNetwork& network,
                                                     bool weight_gradients);
std::unique_ptr<method::DiscriminatorNetwork> discriminator_view(const NetworkPlan& plan,
                                                                 sharding::ShardedNetwork& network,
                                                                 bool weight_gradients);

/// The generator of a method over its student, with what it refers to.
class GeneratorView {
 public:
  GeneratorView(const NetworkPlan& plan, const MethodOptions& method, sharding::ShardedNetwork& student,
                bool weight_gradients);
  method::Generator& generator() { return *generator_; }

 private:
  std::unique_ptr<method::StudentNetwork> student_;
  std::unique_ptr<method::VelocityNetwork> velocity_;
  std::unique_ptr<method::Generator> generator_;
};

/// True when the student is the decoupled one, false when it is a plain velocity network (DMD2-v).
bool is_decoupled(MethodName method);

}  // namespace tmd::workers
