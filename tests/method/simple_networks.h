#pragma once

#include <functional>
#include <vector>

#include <ATen/ATen.h>

#include "method/inner_flow.h"
#include "method/networks.h"

// Networks that are formulas, for tests of the method.
namespace tmd::test {

inline at::Tensor over_latent(const at::Tensor& t) { return t.view({-1, 1, 1, 1, 1}); }

/// Student whose main feature is x_t and whose head is a function of (y_s, s, r, x_t). Counts its calls.
class FormulaStudent : public method::StudentNetwork {
 public:
  using Head = std::function<at::Tensor(const at::Tensor& y_s, const at::Tensor& s, const at::Tensor& r,
                                        const at::Tensor& x_t)>;
  explicit FormulaStudent(Head head) : head_(std::move(head)) {}

  MainFeature backbone(const at::Tensor& x_t, const at::Tensor& t, const at::Tensor& text) override {
    (void)t;
    ++backbone_calls;
    return {x_t, text};
  }
  at::Tensor head(const at::Tensor& y_s, const at::Tensor& s, const at::Tensor& r,
                  const MainFeature& m) override {
    ++head_calls;
    return head_(y_s, over_latent(s), over_latent(r), m.tokens);
  }

  int backbone_calls = 0, head_calls = 0;

 private:
  Head head_;
};

/// The inner flow of a head that does not look at outer state and time, from noise `y_1`.
inline at::Tensor roll_out_from(method::StudentNetwork& student, const at::Tensor& y_1,
                                const std::vector<double>& grid,
                                method::InnerVelocity velocity = method::InnerVelocity::kAverage) {
  const method::StudentNetwork::MainFeature m{y_1, {}};
  const at::Tensor t = at::ones({y_1.size(0)}, at::kDouble);
  return method::roll_out({student, {}, m, y_1, t, y_1}, grid, velocity);
}

/// Velocity network that is a function of (x, t, text).
class FormulaVelocity : public method::VelocityNetwork {
 public:
  using Formula = std::function<at::Tensor(const at::Tensor& x, const at::Tensor& t, const at::Tensor& text)>;
  explicit FormulaVelocity(Formula formula) : formula_(std::move(formula)) {}

  at::Tensor velocity(const at::Tensor& x, const at::Tensor& t, const at::Tensor& text) override {
    return formula_(x, over_latent(t), text);
  }
  WithFeatures velocity_and_features(const at::Tensor& x, const at::Tensor& t, const at::Tensor& text,
                                     bool) override {
    return {formula_(x, over_latent(t), text), {x, x * 2}};
  }

 private:
  Formula formula_;
};

}  // namespace tmd::test
