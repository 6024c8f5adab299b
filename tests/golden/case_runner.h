#pragma once

#include <map>
#include <memory>
#include <string>

#include "comm/communicator.h"
#include "comparison.h"
#include "golden_case.h"
#include "sharding/adamw.h"
#include "sharding/mesh.h"
#include "sharding/sharded_network.h"

namespace tmd::golden {

/// Computes everything that a case expects, its samples dealt over the ranks and its networks sharded over
/// them.
class CaseRunner {
 public:
  CaseRunner(const GoldenCase& golden, comm::Communicator& world, at::ScalarType type,
             const sharding::MeshShape& mesh);
  /// Collective over: world.
  Comparison run();

 private:
  /// Rows of a batch of `rows` samples that this rank computes. All ranks have equally many, so that they
  /// make the same calls; a row with weight 0 is a repetition that does not count.
  struct Share {
    at::Tensor rows;     // [k] int64
    at::Tensor weights;  // [k] float64, 1 or 0, divided by the number of samples
    int64_t total = 0;
  };
  Share share_of(int64_t rows) const;
  /// Rows of all ranks put back into one tensor.
  at::Tensor collect(const Share& share, const at::Tensor& local);
  at::Tensor draw(const Share& share, const std::string& name) const;

  std::unique_ptr<sharding::ShardedNetwork> network(const std::string& name, bool trainable);
  void compare(const std::string& name, const at::Tensor& actual);
  void compare_scalar(const std::string& name, double actual);
  void compare_gradients(const std::string& prefix, sharding::ShardedNetwork& network,
                         const std::string& norms_key, const std::string& norms_prefix);
  double limit(const std::string& name) const;
  /// sum(weights * per_sample) over all ranks, and its gradient into the networks.
  double backward(const Share& share, const at::Tensor& per_sample);
  double mean(const Share& share, const at::Tensor& per_sample);

  at::Tensor whole_tokens(const at::Tensor& rows) const;

  void check_grids();
  void check_stage1();
  void check_adamw();
  void check_student_step();
  void check_critic_step();
  void check_samplers();
  void check_student_sampler();

  method::Stage1Draws stage1_draws(const Share& share) const;
  method::Stage2Draws stage2_draws(const Share& share, const std::string& prefix) const;
  method::Stage1Result run_stage1(sharding::ShardedNetwork& student, const Share& share);

  const GoldenCase& case_;
  comm::Communicator& world_;
  at::ScalarType type_;
  sharding::Mesh mesh_;
  sharding::GatherBuffers buffers_;
  Comparison comparison_;
  std::map<std::string, bool> seen_;  ///< expected tensors that were compared
};

}  // namespace tmd::golden
