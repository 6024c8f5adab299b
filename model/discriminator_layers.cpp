#include "model/discriminator_layers.h"

#include <algorithm>
#include <vector>

#include <ATen/ATen.h>

namespace tmd::model {

using sharding::Initialiser;

namespace {

constexpr double kGroupNormEpsilon = 1e-5;
constexpr double kLeakySlope = 0.2;

}  // namespace

void visit_conv(ParameterVisitor& visitor, LinearWeights& conv, const std::string& name, int64_t out,
                int64_t in, const Extents& kernel) {
  const auto [frames, rows, columns] = kernel;
  const int64_t taps = frames * rows * columns;
  visitor(conv.weight, {name + ".weight",
                        {out, in, frames, rows, columns},
                        Initialiser::xavier_uniform(in * taps, out * taps)});
  visitor(conv.bias, {name + ".bias", {out}, Initialiser::constant(0)});
}

void visit_norm(ParameterVisitor& visitor, LinearWeights& norm, const std::string& name, int64_t size) {
  visitor(norm.weight, {name + ".weight", {size}, Initialiser::constant(1)});
  visitor(norm.bias, {name + ".bias", {size}, Initialiser::constant(0)});
}

at::Tensor norm_and_leak(const at::Tensor& x, const LinearWeights& norm) {
  const at::Tensor normed =
      at::group_norm(x, group_count(x.size(1)), norm.weight, norm.bias, kGroupNormEpsilon);
  return at::leaky_relu(normed, kLeakySlope);
}

at::Tensor average_windows(const at::Tensor& x, const Extents& window) {
  if (window == Extents{1, 1, 1}) return x;
  std::vector<int64_t> kernel;
  for (size_t axis = 0; axis < window.size(); ++axis) {
    kernel.push_back(std::min(window[axis], x.size(static_cast<int64_t>(axis) + 2)));
  }
  return at::avg_pool3d(x, kernel, kernel);
}

void visit(ParameterVisitor& visitor, PerceptronWeights& perceptron, const DiscriminatorConfig& config,
           const std::string& prefix, int64_t in) {
  visit_linear(visitor, perceptron.fc1, prefix + ".fc1", config.hidden, in);
  visit_linear(visitor, perceptron.fc2, prefix + ".fc2", 1, config.hidden);
}

at::Tensor perceptron_logit(const PerceptronWeights& perceptron, const DiscriminatorConfig& config,
                            const at::Tensor& pooled, const at::Tensor& keep) {
  at::Tensor hidden = at::leaky_relu(apply(perceptron.fc1, pooled), kLeakySlope);
  if (keep.defined()) hidden = hidden * keep / (1 - config.dropout);
  return apply(perceptron.fc2, hidden).squeeze(1);
}

}  // namespace tmd::model
