#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "model/parameters.h"
#include "sharding/run_unit.h"
#include "sharding/sharded_network.h"

namespace tmd::model {

/// A small perceptron behind the same contract as the transformer, for problems of a few numbers per sample
/// (the 2-D mixture). It has no text input, so guidance of a teacher has no effect on it. That of stage 1 has
/// one, since it mixes y with the student's own prediction: stage1.cfg should be 1.
struct MlpConfig {
  int64_t values = 2;  ///< numbers per sample, C*T*H*W of the latent
  int64_t width = 64;
  int64_t hidden_layers = 3;
  int64_t freq_dim = 16;  ///< size of the time sinusoid, whose fastest wave turns by 20 over the times
};

struct MlpWeights {
  std::vector<LinearWeights> hidden;  ///< [width, values + freq_dim], then [width, width]; biases [width]
  LinearWeights out;                  ///< [values, width], [values]
};
/// Resizes `hidden`. Tensor names begin with "mlp.".
void visit(ParameterVisitor& visitor, MlpWeights& mlp, const MlpConfig& config);

/// The flow head's residual: takes last hidden layer, y_s, s and s - r, gives a correction of that layer.
struct MlpFusionWeights {
  LinearWeights in;      ///< [width, width + values + 2 freq_dim], [width]
  LinearWeights middle;  ///< [width, width], [width]
  LinearWeights out;     ///< [width, width], [width]; starts at zero: the student starts as the teacher
};
/// Tensor names begin with "tmd.fusion.".
void visit(ParameterVisitor& visitor, MlpFusionWeights& fusion, const MlpConfig& config);

/// One unit "mlp"; the student has the unit "fusion" as well.
std::vector<sharding::UnitSpec> mlp_units(const MlpConfig& config);
std::vector<sharding::UnitSpec> mlp_student_units(const MlpConfig& config);

/// Same calls as WanDit and TmdStudent; latents [B, C, T, H, W] with C*T*H*W = values, in the network's type;
/// times [B] float64 in network units (0 .. 1000). `weight_gradients`: as in run_unit.
/// Collective over: the copy group, for every call.
class Mlp {
 public:
  /// Keeps a reference to `network`, which must outlive it.
  Mlp(const MlpConfig& config, sharding::ShardedNetwork& network) : config_(config), network_(network) {}

  const MlpConfig& config() const { return config_; }
  sharding::ShardedNetwork& network() const { return network_; }

  /// Estimate of noise - data, in the shape of `latent` (TMD Eq. 2).
  at::Tensor velocity(const at::Tensor& latent, const at::Tensor& time, bool weight_gradients) const;
  /// Last hidden layer, [B, width].
  at::Tensor backbone(const at::Tensor& latent, const at::Tensor& time, bool weight_gradients) const;
  /// head(y_s, s, r; m), an estimate of y in the shape of y_s, from the last hidden layer `m` [B, width].
  /// `inner_time` = 1000 s, `inner_step` = 1000 (s - r). Throws kInternal without the unit "fusion".
  at::Tensor head(const at::Tensor& y_s, const at::Tensor& inner_time, const at::Tensor& inner_step,
                  const at::Tensor& m, bool weight_gradients) const;

 private:
  MlpConfig config_;
  sharding::ShardedNetwork& network_;
};

}  // namespace tmd::model
