#pragma once

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "method/networks.h"

namespace tmd::method {

/// Which clean sample a prediction y_hat of y = x_1 - x stands for.
enum class XHat {
  kXtMinusTy,  ///< x_t - t y_hat: what the sampler returns in its last step (TMD Eq. 4, 17)
  kX1MinusY,   ///< x_1 - y_hat, as printed in TMD Eq. 15
};

/// Maps noise to a sample in one outer step: what stage 2 trains and samplers step with.
class Generator {
 public:
  virtual ~Generator() = default;
  /// y_hat(x_t, t, c), Z, with inner noise y_1 (ignored by generators without an inner flow): x_t Z, t [B]
  /// float64, text [B, S, E], y_1 Z. Gradients flow to the network unless they are off.
  /// Collective over: the ranks that the network is cut over.
  virtual at::Tensor outer_velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text,
                                    const at::Tensor& y_1) = 0;
};

/// Inner states and head outputs of a rollout, noise side first, for diagnostics and comparisons.
struct InnerTrace {
  std::vector<at::Tensor> heads;   ///< N tensors Z, detached
  std::vector<at::Tensor> states;  ///< N tensors Z, y after each step, detached
};

/// What the head was trained for: average velocities y_1 - head(y_s, s, r) of MeanFlow (TMD Eq. 14), or,
/// after plain transition matching, only E[y | y_s] = head(y_s, s, s), whose inner velocity is (y_s - head) /
/// s.
enum class InnerVelocity { kAverage, kInstantaneous };

/// Rolls the flow head out on a grid 0 = s_0 < ... < s_N of N + 1 points (TMD Eq. 12 to 15, Algorithms 1 and
/// 2):
///   y <- y_1;  for j = N .. 1:  y <- y - (s_j - s_{j-1}) (y_1 - head(y, s_j, s_{j-1}; m))
/// The minus sign is the one that follows from Eq. 5, 7 and 8; Eq. 13 prints plus. With kInstantaneous Euler
/// steps of the inner flow:  y <- y - (s_j - s_{j-1}) (y - head(y, s_j, s_j; m)) / s_j. y_1 Z -> y_hat Z.
/// Gradients flow through all steps. `trace` is appended to; null: none.
at::Tensor inner_flow(StudentNetwork& student, const StudentNetwork::MainFeature& m, const at::Tensor& y_1,
                      const std::vector<double>& grid_s, InnerVelocity velocity = InnerVelocity::kAverage,
                      InnerTrace* trace = nullptr);

/// TMD: backbone once, then the inner flow (TMD Algorithm 1).
class TmdGenerator : public Generator {
 public:
  /// Keeps a reference to `student`, which must outlive it, and a copy of the grid 0 = s_0 < ... < s_N.
  TmdGenerator(StudentNetwork& student, std::vector<double> grid_s,
               InnerVelocity velocity = InnerVelocity::kAverage)
      : student_(student), grid_s_(std::move(grid_s)), velocity_(velocity) {}
  at::Tensor outer_velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text,
                            const at::Tensor& y_1) override;
  /// Later rollouts are appended to `trace`, which must live as long; null switches that off.
  void set_trace(InnerTrace* trace) { trace_ = trace; }

 private:
  StudentNetwork& student_;
  std::vector<double> grid_s_;
  InnerVelocity velocity_;
  InnerTrace* trace_ = nullptr;
};

/// DMD2-v (TMD Sec. 2, Eq. 17): the velocity network itself, x_hat = x_t - t v.
class VelocityGenerator : public Generator {
 public:
  /// Keeps a reference to `network`, which must outlive it.
  explicit VelocityGenerator(VelocityNetwork& network) : network_(network) {}
  at::Tensor outer_velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text,
                            const at::Tensor& y_1) override;

 private:
  VelocityNetwork& network_;
};

}  // namespace tmd::method
