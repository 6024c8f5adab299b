#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "model/wan_dit.h"

namespace tmd::model {

/// How the main feature m and the inner state y_s meet (TMD App. A.1, B.3). kNone: there is no main feature,
/// and all blocks belong to the head, which is then the network u(x_t, t, r; c) of MeanFlow.
enum class Fusion { kGated, kConcat, kNone };

struct TmdStudentConfig {
  WanConfig wan;
  int64_t head_blocks = 5;  ///< H <= layers, the last blocks, which form the flow head; kNone: all
  Fusion fusion = Fusion::kGated;
  double gate_start = -4;           ///< a of the gate sigmoid(a)
  double gate_lr_multiplier = 100;  ///< Adam moves a scalar by at most lr a step: else the gate stays
  double concat_std = 0.01;         ///< start of the y_s half of the concat fusion
};

/// Weights that a TMD student has beyond its teacher's: the embedder of s - r and the fusion layer
/// (TMD App. A.1). Shapes are those of weights; biases are [out].
struct FusionWeights {
  LinearWeights delta_in, delta_out;  ///< time MLP of 1000 (s - r): [D, freq_dim], [D, D]
  LinearWeights delta_projection;     ///< [6 D, D]; it and delta_out start at zero
  LinearWeights ffn_in, ffn_out;      ///< gated: [F, D], [D, F]
  at::Tensor modulation;              ///< gated: [1, 3, D], rows shift, scale, gate
  at::Tensor gate;                    ///< gated: [1], a of the global gate sigmoid(a)
  LinearWeights concat;               ///< concat: [D, 2 D] (TMD App. B.3)
};
/// Visits those of config.fusion only. Tensor names begin with "tmd.".
void visit(ParameterVisitor& visitor, FusionWeights& fusion, const TmdStudentConfig& config);

/// wan_units plus the unit "fusion".
std::vector<sharding::UnitSpec> tmd_student_units(const TmdStudentConfig& config);

/// The decoupled student of TMD (arXiv 2601.09881, Sec. 3 and App. A.1): backbone m_theta and flow head.
/// Text [B, S, text_dim] and latents [B, C, T, H, W] are in the network's wide type, times [B] float64 in
/// network units (0 .. 1000). `weight_gradients`: as in run_unit. Collective over: the copy group, for every
/// call. Thread: one at a time, as WanDit.
class TmdStudent {
 public:
  /// Keeps a reference to `network`, which has tmd_student_units and must outlive it.
  TmdStudent(const TmdStudentConfig& config, sharding::ShardedNetwork& network)
      : config_(config), dit_(config.wan, network) {}

  const TmdStudentConfig& config() const { return config_; }
  sharding::ShardedNetwork& network() const { return dit_.network(); }

  /// m and the embedded text, which the head needs as well.
  struct MainFeature {
    at::Tensor tokens;   ///< [B, N, D] after block L - H - 1
    at::Tensor context;  ///< [B, S, D]
  };

  /// m_theta(x_t, t, c), `time` = 1000 t. Throws kData as WanDit::embed.
  MainFeature backbone(const at::Tensor& x_t, const at::Tensor& time, const at::Tensor& text,
                       bool weight_gradients) const;

  /// head_theta(y_s, s, r; m, c): an estimate of y = x_1 - x in the shape of y_s (TMD Eq. 14, App. A.1).
  /// `inner_time` = 1000 s, `inner_step` = 1000 (s - r), both [B] float64. `m` of the same B and token grid;
  /// gradients flow into it. Throws kData for odd height or width.
  at::Tensor head(const at::Tensor& y_s, const at::Tensor& inner_time, const at::Tensor& inner_step,
                  const MainFeature& m, bool weight_gradients) const;

 private:
  WanStream fuse(const at::Tensor& y_s, const at::Tensor& inner_time, const at::Tensor& inner_step,
                 const MainFeature& m, bool weight_gradients) const;

  TmdStudentConfig config_;
  WanDit dit_;
};

}  // namespace tmd::model
