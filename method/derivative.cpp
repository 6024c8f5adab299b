#include "method/derivative.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/forward_grad.h>

#include "method/flow.h"

namespace tmd::method {
namespace {

// The level at which tensors carry tangents; there is one at a time.
class ForwardLevel {
 public:
  ForwardLevel() : level_(torch::autograd::ForwardADLevel::get_next_idx()) {}
  ~ForwardLevel() { torch::autograd::ForwardADLevel::release_idx(level_); }
  ForwardLevel(const ForwardLevel&) = delete;
  ForwardLevel& operator=(const ForwardLevel&) = delete;

  at::Tensor with_tangent(const at::Tensor& value, const at::Tensor& tangent) const {
    return at::_make_dual(value.detach(), tangent.detach(), static_cast<int64_t>(level_));
  }
  at::Tensor tangent_of(const at::Tensor& x) const {
    const at::Tensor tangent = std::get<1>(at::_unpack_dual(x, static_cast<int64_t>(level_)));
    return tangent.defined() ? tangent.clone() : at::zeros_like(x);
  }

 private:
  uint64_t level_;
};

}  // namespace

DifferenceSteps difference_steps(const at::Tensor& s, const at::Tensor& r, const DifferenceRule& rule) {
  const at::Tensor none = at::zeros_like(s), step = at::full_like(s, rule.delta);
  const at::Tensor backward = s - rule.delta;
  return {at::where(s + rule.delta <= rule.high, step, none),
          at::where((backward >= rule.low).logical_and(backward > r), step, none)};
}

at::Tensor finite_difference(const AlongPath& f, const at::Tensor& y, const at::Tensor& v,
                             const at::Tensor& s, const DifferenceSteps& steps) {
  const at::NoGradGuard no_grad;
  const auto value_at = [&](const at::Tensor& step) {
    const at::Tensor moved =
        (y.to(at::kDouble) + over_latent(step, v) * v.to(at::kDouble)).to(y.scalar_type());
    return f(moved, s + step).to(at::kDouble);
  };
  const at::Tensor plus = steps.plus, minus = -steps.minus;
  const at::Tensor width = over_latent(plus - minus, y);
  const at::Tensor difference = value_at(plus) - value_at(minus);
  return at::where(width > 0, difference / width.clamp_min(1e-300), at::zeros_like(difference))
      .to(y.scalar_type());
}

at::Tensor exact_derivative(const AlongPath& f, const at::Tensor& y, const at::Tensor& v,
                            const at::Tensor& s) {
  const at::NoGradGuard no_grad;
  const ForwardLevel level;
  const at::Tensor moving_y = level.with_tangent(y, v.to(y.scalar_type()));
  const at::Tensor moving_s = level.with_tangent(s, at::ones_like(s));
  return level.tangent_of(f(moving_y, moving_s)).to(y.scalar_type());
}

}  // namespace tmd::method
