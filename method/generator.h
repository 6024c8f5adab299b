#pragma once

#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "method/inner_flow.h"
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
  /// y_hat(x_t, t, c), Z, for the step from t to `next`, which only MeanFlow looks at, with inner noise y_1,
  /// which generators without an inner flow ignore: x_t Z, t and next [B] float64, text [B, S, E], y_1 Z.
  /// Gradients flow to the network unless they are off.
  /// Collective over: the ranks that the network is cut over.
  virtual at::Tensor outer_velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& next,
                                    const at::Tensor& text, const at::Tensor& y_1) = 0;
  /// y_hat by one call of the flow head from (y_s, s) to r = 0 (TMD Sec. 4, "no rollout"): y_s and y_1 Z,
  /// s [B] float64. Throws kInternal where there is no flow head.
  virtual at::Tensor without_rollout(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text,
                                     const at::Tensor& y_s, const at::Tensor& s, const at::Tensor& y_1);
};

/// TMD: backbone once, then the inner flow (TMD Algorithm 1).
class TmdGenerator : public Generator {
 public:
  /// Keeps a reference to `student`, which must outlive it, and a copy of the grid 0 = s_0 < ... < s_N.
  TmdGenerator(StudentNetwork& student, std::vector<double> grid_s, InnerForm form = {},
               InnerVelocity velocity = InnerVelocity::kAverage)
      : student_(student), grid_s_(std::move(grid_s)), form_(form), velocity_(velocity) {}
  at::Tensor outer_velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& next,
                            const at::Tensor& text, const at::Tensor& y_1) override;
  at::Tensor without_rollout(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text,
                             const at::Tensor& y_s, const at::Tensor& s, const at::Tensor& y_1) override;
  /// Later rollouts are appended to `trace`, which must live as long; null switches that off.
  void set_trace(InnerTrace* trace) { trace_ = trace; }

 private:
  StudentNetwork& student_;
  std::vector<double> grid_s_;
  InnerForm form_;
  InnerVelocity velocity_;
  InnerTrace* trace_ = nullptr;
};

/// DMD2-v (TMD Sec. 2, Eq. 17): the velocity network itself, x_hat = x_t - t v.
class VelocityGenerator : public Generator {
 public:
  /// Keeps a reference to `network`, which must outlive it.
  explicit VelocityGenerator(VelocityNetwork& network) : network_(network) {}
  at::Tensor outer_velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& next,
                            const at::Tensor& text, const at::Tensor& y_1) override;

 private:
  VelocityNetwork& network_;
};

/// MeanFlow (arXiv 2505.13447, Eq. 3 and Algorithm 2): the average velocity u(x_t, t, next) of the outer
/// flow.
class MeanFlowGenerator : public Generator {
 public:
  /// Keeps a reference to `student`, whose head is u(x_t, t, r; c), and which must outlive it.
  explicit MeanFlowGenerator(StudentNetwork& student) : student_(student) {}
  at::Tensor outer_velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& next,
                            const at::Tensor& text, const at::Tensor& y_1) override;

 private:
  StudentNetwork& student_;
};

}  // namespace tmd::method
