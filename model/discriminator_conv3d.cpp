#include "model/discriminator_conv3d.h"

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

namespace tmd::model {

void visit(ParameterVisitor& visitor, Conv3dBranch& branch, const DiscriminatorConfig& config,
           const std::string& prefix) {
  branch.scales.resize(config.scales.size());
  const int64_t inner = config.inner_channels();
  for (size_t k = 0; k < config.scales.size(); ++k) {
    const std::string name = fmt::format("{}.scale{}", prefix, k);
    visit_conv(visitor, branch.scales[k].conv1, name + ".conv1", inner, config.channels, {1, 1, 1});
    visit_norm(visitor, branch.scales[k].norm1, name + ".gn1", inner);
    visit_conv(visitor, branch.scales[k].conv3, name + ".conv3", inner, inner, {3, 3, 3});
    visit_norm(visitor, branch.scales[k].norm2, name + ".gn2", inner);
  }
  const int64_t pooled = static_cast<int64_t>(config.scales.size()) * inner;
  visit(visitor, branch.perceptron, config, prefix, pooled);
}

at::Tensor branch_logit(const Conv3dBranch& branch, const DiscriminatorConfig& config, const at::Tensor& map,
                        const at::Tensor& keep) {
  std::vector<at::Tensor> pooled;  // [B, R] each
  for (size_t k = 0; k < config.scales.size(); ++k) {
    const ScaleWeights& w = branch.scales[k];
    const int64_t scale = config.scales[k];
    at::Tensor x = norm_and_leak(at::conv3d(map, w.conv1.weight, w.conv1.bias), w.norm1);
    x = at::conv3d(average_windows(x, {scale, scale, scale}), w.conv3.weight, w.conv3.bias, /*stride=*/1,
                   /*padding=*/1);
    pooled.push_back(norm_and_leak(x, w.norm2).mean({2, 3, 4}));
  }
  return perceptron_logit(branch.perceptron, config, at::cat(pooled, 1), keep);
}

}  // namespace tmd::model
