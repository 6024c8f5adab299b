#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "method/networks.h"

namespace tmd::method {

/// The variable y that the inner flow goes to.
enum class InnerTarget {
  kVelocity,  ///< y = x_1 - x (TMD Eq. 3)
  kClean,     ///< y = x (TMD App. B.4)
};

/// What the flow head puts out.
enum class HeadOutput {
  kEstimate,         ///< an outer velocity, from which u follows (TMD Eq. 14, App. B.4)
  kAverageVelocity,  ///< u itself, which the paper found to perform poorly
};

struct InnerForm {
  InnerTarget target = InnerTarget::kVelocity;
  HeadOutput output = HeadOutput::kEstimate;
  bool operator==(const InnerForm&) const = default;
};

/// y of data x and outer noise x_1, Z.
at::Tensor inner_target(const InnerForm& form, const at::Tensor& x, const at::Tensor& x_1);

/// The outer velocity that y stands for at (x_t, t): y itself, or (x_t - y) / t. Z.
at::Tensor outer_velocity_of(const InnerForm& form, const at::Tensor& y, const at::Tensor& x_t,
                             const at::Tensor& t);

/// An inner flow: the flow head at one outer state, with the noise that the flow starts from. All borrowed.
struct InnerFlow {
  StudentNetwork& student;
  InnerForm form;
  const StudentNetwork::MainFeature& m;
  const at::Tensor &x_t, &t, &y_1;  ///< Z, [B] float64, Z

  /// h = y_1 - u(y_s, s, r; m), Z, with the average velocity u of MeanFlow, in the type of the head's output:
  ///   kVelocity, kEstimate:  u = y_1 - head                         (TMD Eq. 14), so that h = head
  ///   kClean, kEstimate:     u = (y_s - (x_t - t head)) / s         (TMD App. B.4)
  ///   kAverageVelocity:      u = head
  /// The target of stage 1 and the rollout are written in h, which is an estimate of y where s = 1 or u is
  /// constant. s, r [B] float64, r <= s.
  at::Tensor operator()(const at::Tensor& y_s, const at::Tensor& s, const at::Tensor& r) const;
};

/// Inner states and estimates h of a rollout, noise side first, for diagnostics and comparisons.
struct InnerTrace {
  std::vector<at::Tensor> heads;   ///< N tensors Z, h of every step, detached
  std::vector<at::Tensor> states;  ///< N tensors Z, y after each step, detached
};

/// What the head was trained for: average velocities y_1 - head(y_s, s, r) of MeanFlow (TMD Eq. 14), or,
/// after plain transition matching, only E[y | y_s] = head(y_s, s, s), whose inner velocity is (y_s - head) /
/// s. Other forms than the default one put out their velocity either way.
enum class InnerVelocity { kAverage, kInstantaneous };

/// Rolls the flow head out on a grid 0 = s_0 < ... < s_N of N + 1 points (TMD Eq. 12 to 15, Algorithms 1 and
/// 2):
///   y <- y_1;  for j = N .. 1:  y <- y - (s_j - s_{j-1}) (y_1 - h(y, s_j, s_{j-1}))
/// The minus sign is the one that follows from Eq. 5, 7 and 8; Eq. 13 prints plus. With kInstantaneous Euler
/// steps of the inner flow with r = s:  y <- y - (s_j - s_{j-1}) (y - head(y, s_j, s_j; m)) / s_j.
/// Returns y, Z. Gradients flow through all steps. `trace` is appended to; null: none.
at::Tensor roll_out(const InnerFlow& flow, const std::vector<double>& grid_s,
                    InnerVelocity velocity = InnerVelocity::kAverage, InnerTrace* trace = nullptr);

}  // namespace tmd::method
