#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "method/networks.h"

namespace tmd::method {

/// Which clean sample a prediction y_hat of y = x_1 - x stands for.
enum class XHat {
  kXtMinusTy,  ///< x_t - t y_hat: what the sampler returns in its last step
  kX1MinusY,   ///< x_1 - y_hat, as printed in TMD Eq. 15
};

/// Maps noise to a sample in one outer step: what stage 2 trains and samplers step with.
class Generator {
 public:
  virtual ~Generator() = default;
  /// y_hat(x_t, t, c) with inner noise y_1 (ignored by generators without an inner flow). Shapes Z, [B], text, Z.
  virtual at::Tensor outer_velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text,
                                    const at::Tensor& y_1) = 0;
};

/// Inner states and head outputs of a rollout, noise side first, for diagnostics and comparisons.
struct InnerTrace {
  std::vector<at::Tensor> heads;   // N tensors Z
  std::vector<at::Tensor> states;  // N tensors Z, y after each step
};

/// Rolls the flow head out on a grid 0 = s_0 < ... < s_N (TMD Eq. 12 to 15, Algorithms 1 and 2):
///   y <- y_1;  for j = N .. 1:  y <- y - (s_j - s_{j-1}) (y_1 - head(y, s_j, s_{j-1}; m))
/// The minus sign is the one that follows from Eq. 5, 7 and 8; Eq. 13 prints plus. Gradients flow through all steps.
at::Tensor inner_flow(StudentNetwork& student, const StudentNetwork::MainFeature& m, const at::Tensor& y_1,
                      const std::vector<double>& grid_s, InnerTrace* trace = nullptr);

/// TMD: backbone once, then the inner flow.
class TmdGenerator : public Generator {
 public:
  /// Keeps a reference to `student`.
  TmdGenerator(StudentNetwork& student, std::vector<double> grid_s) : student_(student), grid_s_(std::move(grid_s)) {}
  at::Tensor outer_velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text,
                            const at::Tensor& y_1) override;
  void set_trace(InnerTrace* trace) { trace_ = trace; }

 private:
  StudentNetwork& student_;
  std::vector<double> grid_s_;
  InnerTrace* trace_ = nullptr;
};

/// DMD2-v (TMD Sec. 2, Eq. 17): the velocity network itself, x_hat = x_t - t v.
class VelocityGenerator : public Generator {
 public:
  explicit VelocityGenerator(VelocityNetwork& network) : network_(network) {}
  at::Tensor outer_velocity(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text,
                            const at::Tensor& y_1) override;

 private:
  VelocityNetwork& network_;
};

}  // namespace tmd::method
