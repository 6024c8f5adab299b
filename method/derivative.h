#pragma once

#include <functional>

#include <ATen/core/Tensor.h>

namespace tmd::method {

/// Which sides of a finite difference a sample may use: the function at s + plus and s - minus; 0 = not
/// allowed.
struct DifferenceSteps {
  at::Tensor plus, minus;  ///< [B] float64, 0 or delta
};

/// Bounds of the rule for the sides.
struct DifferenceRule {
  double delta = 5e-3;           ///< step
  double low = 0, high = 0.999;  ///< of times that the function may be asked for
};

/// Forward allowed if s + delta <= high, backward if s - delta >= low and s - delta > r (TMD App. A.2; the
/// side rules are FastGen's). s, r [B] float64.
DifferenceSteps difference_steps(const at::Tensor& s, const at::Tensor& r, const DifferenceRule& rule);

/// A function of a state Z and a time [B] float64 with values Z, which calls networks.
using AlongPath = std::function<at::Tensor(const at::Tensor& y, const at::Tensor& s)>;

/// d/ds f(y(s), s) along a path with dy/ds = v, by differences over the sides that `steps` allows, zero where
/// it allows none. y, v Z, s [B]; Z of the type of y. Two calls of f. No gradients.
at::Tensor finite_difference(const AlongPath& f, const at::Tensor& y, const at::Tensor& v,
                             const at::Tensor& s, const DifferenceSteps& steps);

/// The same exactly, as a Jacobian-vector product by forward-mode differentiation. One call of f, whose
/// operations must know that mode (sharding/forward_mode.h). No gradients. Thread: one at a time.
at::Tensor exact_derivative(const AlongPath& f, const at::Tensor& y, const at::Tensor& v,
                            const at::Tensor& s);

}  // namespace tmd::method
