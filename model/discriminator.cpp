#include "model/discriminator.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "sharding/token_exchange.h"

namespace tmd::model {

using sharding::Initialiser;
using sharding::Tensors;

namespace {

constexpr double kGroupNormEpsilon = 1e-5;
constexpr double kLeakySlope = 0.2;

void visit_conv(ParameterVisitor& visitor, LinearWeights& conv, const std::string& name, int64_t out,
                int64_t in, int64_t kernel) {
  const int64_t taps = kernel * kernel * kernel;
  visitor(conv.weight, {name + ".weight",
                        {out, in, kernel, kernel, kernel},
                        Initialiser::xavier_uniform(in * taps, out * taps)});
  visitor(conv.bias, {name + ".bias", {out}, Initialiser::constant(0)});
}

void visit_norm(ParameterVisitor& visitor, LinearWeights& norm, const std::string& name, int64_t channels) {
  visitor(norm.weight, {name + ".weight", {channels}, Initialiser::constant(1)});
  visitor(norm.bias, {name + ".bias", {channels}, Initialiser::constant(0)});
}

at::Tensor norm_and_leak(const at::Tensor& x, const LinearWeights& norm, int64_t groups) {
  return at::leaky_relu(at::group_norm(x, groups, norm.weight, norm.bias, kGroupNormEpsilon), kLeakySlope);
}

// Small maps clip the pooling kernel per axis, so that the parameters do not depend on the map's size.
at::Tensor pool(const at::Tensor& x, int64_t scale) {
  if (scale == 1) return x;
  const std::vector<int64_t> kernel = {std::min(scale, x.size(2)), std::min(scale, x.size(3)),
                                       std::min(scale, x.size(4))};
  return at::avg_pool3d(x, kernel, kernel);
}

}  // namespace

int64_t DiscriminatorConfig::groups() const {
  const int64_t inner = inner_channels();
  int64_t groups = inner <= 32 ? std::max<int64_t>(1, inner / 4) : 32;
  while (inner % groups != 0) --groups;
  return groups;
}

void visit(ParameterVisitor& visitor, BranchWeights& branch, const DiscriminatorConfig& config,
           const std::string& prefix) {
  branch.scales.resize(config.scales.size());
  const int64_t inner = config.inner_channels();
  for (size_t k = 0; k < config.scales.size(); ++k) {
    const std::string name = fmt::format("{}.scale{}", prefix, k);
    visit_conv(visitor, branch.scales[k].conv1, name + ".conv1", inner, config.channels, 1);
    visit_norm(visitor, branch.scales[k].norm1, name + ".gn1", inner);
    visit_conv(visitor, branch.scales[k].conv3, name + ".conv3", inner, inner, 3);
    visit_norm(visitor, branch.scales[k].norm2, name + ".gn2", inner);
  }
  const int64_t pooled = static_cast<int64_t>(config.scales.size()) * inner;
  visit_linear(visitor, branch.fc1, prefix + ".fc1", config.hidden, pooled);
  visit_linear(visitor, branch.fc2, prefix + ".fc2", 1, config.hidden);
}

std::vector<sharding::UnitSpec> discriminator_units(const DiscriminatorConfig& config) {
  std::vector<sharding::UnitSpec> units;
  for (int64_t head = 0; head < config.heads; ++head) {
    const std::string name = fmt::format("disc.{}", head);
    units.push_back(declare<BranchWeights>(name, [&](auto& v, auto& w) { visit(v, w, config, name); }));
  }
  return units;
}

at::Tensor branch_forward(const BranchWeights& branch, const DiscriminatorConfig& config,
                          const at::Tensor& map, const at::Tensor& keep) {
  const int64_t groups = config.groups();
  Tensors pooled;  // [B, R] each
  for (size_t k = 0; k < config.scales.size(); ++k) {
    const ScaleWeights& w = branch.scales[k];
    at::Tensor x = norm_and_leak(at::conv3d(map, w.conv1.weight, w.conv1.bias), w.norm1, groups);
    x = at::conv3d(pool(x, config.scales[k]), w.conv3.weight, w.conv3.bias, /*stride=*/1, /*padding=*/1);
    pooled.push_back(norm_and_leak(x, w.norm2, groups).mean({2, 3, 4}));
  }
  at::Tensor hidden = at::leaky_relu(apply(branch.fc1, at::cat(pooled, 1)), kLeakySlope);
  if (keep.defined()) hidden = hidden * keep / (1 - config.dropout);
  return apply(branch.fc2, hidden).squeeze(1);
}

at::Tensor Discriminator::forward(const std::vector<at::Tensor>& maps, const std::vector<at::Tensor>& keep,
                                  bool weight_gradients) const {
  ensure(static_cast<int64_t>(maps.size()) == config_.heads, "one feature map for each discriminator head");
  Tensors logits;
  const comm::Communicator& sharers = network_.mesh().sample_group();
  for (size_t head = 0; head < maps.size(); ++head) {
    const std::string name = fmt::format("disc.{}", head);
    const at::Tensor mask = keep.empty() ? at::Tensor() : keep[head];
    const bool is_mine = static_cast<int>(head) % sharers.size() == sharers.rank();
    const auto function = [config = config_, name, mask, is_mine](std::span<const at::Tensor> params,
                                                                  std::span<const at::Tensor> in) {
      if (!is_mine) return Tensors{at::zeros({in[0].size(0)}, in[0].options())};
      const auto w =
          bind<BranchWeights>(params, [&](auto& v, auto& weights) { visit(v, weights, config, name); });
      return Tensors{branch_forward(w, config, in[0], mask)};
    };
    logits.push_back(run_unit(network_, network_.unit(name), weight_gradients, function, {maps[head]})[0]);
  }
  return sharding::sum_of_dealt(network_.mesh(), at::stack(logits, 1));
}

}  // namespace tmd::model
