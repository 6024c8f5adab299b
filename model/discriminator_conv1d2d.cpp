#include "model/discriminator_conv1d2d.h"

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

namespace tmd::model {

void visit(ParameterVisitor& visitor, Conv1d2dBranch& branch, const DiscriminatorConfig& config,
           const std::string& prefix) {
  branch.pairs.resize(config.conv_widths.size());
  int64_t in = config.channels;
  for (size_t k = 0; k < config.conv_widths.size(); ++k) {
    const std::string name = fmt::format("{}.pair{}", prefix, k);
    const int64_t out = config.conv_widths[k];
    visit_conv(visitor, branch.pairs[k].temporal, name + ".temporal", out, in, {3, 1, 1});
    visit_norm(visitor, branch.pairs[k].norm1, name + ".gn1", out);
    visit_conv(visitor, branch.pairs[k].spatial, name + ".spatial", out, out, {1, 3, 3});
    visit_norm(visitor, branch.pairs[k].norm2, name + ".gn2", out);
    in = out;
  }
  visit(visitor, branch.perceptron, config, prefix, in);
}

// As 3-D convolutions with a kernel of one tap along the other axes: that needs no copy of the map with
// another order of axes.
at::Tensor branch_logit(const Conv1d2dBranch& branch, const DiscriminatorConfig& config,
                        const at::Tensor& map, const at::Tensor& keep) {
  at::Tensor x = map;
  for (size_t k = 0; k < branch.pairs.size(); ++k) {
    const ConvPairWeights& w = branch.pairs[k];
    const int64_t frame_stride = k == 0 ? 1 : 2;
    x = at::conv3d(x, w.temporal.weight, w.temporal.bias, /*stride=*/{frame_stride, 1, 1},
                   /*padding=*/{1, 0, 0});
    x = norm_and_leak(x, w.norm1);
    x = at::conv3d(x, w.spatial.weight, w.spatial.bias, /*stride=*/{1, 2, 2}, /*padding=*/{0, 1, 1});
    x = norm_and_leak(x, w.norm2);
  }
  return perceptron_logit(branch.perceptron, config, x.mean({2, 3, 4}), keep);
}

}  // namespace tmd::model
