#include "model/discriminator.h"

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "model/discriminator_attention.h"
#include "model/discriminator_conv1d2d.h"
#include "model/discriminator_conv3d.h"
#include "sharding/token_exchange.h"

namespace tmd::model {

using sharding::Tensors;

namespace {

std::string branch_name(int64_t head) { return fmt::format("disc.{}", head); }

// Calls `use` with a weight struct of the kind, which only says its type.
template <class Use>
auto with_branch_of(DiscriminatorKind kind, Use use) {
  switch (kind) {
    case DiscriminatorKind::kConv3d:
      return use(Conv3dBranch());
    case DiscriminatorKind::kConv1d2d:
      return use(Conv1d2dBranch());
    case DiscriminatorKind::kAttention:
      return use(AttentionBranch());
  }
  throw Error(ErrorKind::kInternal, "a discriminator of no kind");
}

sharding::UnitSpec branch_unit(const DiscriminatorConfig& config, const std::string& name) {
  return with_branch_of(config.kind, [&](auto branch) {
    return declare<decltype(branch)>(name, [&](auto& v, auto& w) { visit(v, w, config, name); });
  });
}

at::Tensor unit_logit(std::span<const at::Tensor> params, const DiscriminatorConfig& config,
                      const std::string& name, const at::Tensor& map, const at::Tensor& keep) {
  return with_branch_of(config.kind, [&](auto branch) {
    const auto w =
        bind<decltype(branch)>(params, [&](auto& v, auto& weights) { visit(v, weights, config, name); });
    return branch_logit(w, config, map, keep);
  });
}

}  // namespace

std::vector<sharding::UnitSpec> discriminator_units(const DiscriminatorConfig& config) {
  std::vector<sharding::UnitSpec> units;
  for (int64_t head = 0; head < config.heads; ++head) units.push_back(branch_unit(config, branch_name(head)));
  return units;
}

at::Tensor Discriminator::forward(const std::vector<at::Tensor>& maps, const std::vector<at::Tensor>& keep,
                                  bool weight_gradients) const {
  ensure(static_cast<int64_t>(maps.size()) == config_.heads, "one feature map for each discriminator head");
  Tensors logits;
  const comm::Communicator& sharers = network_.mesh().sample_group();
  for (size_t head = 0; head < maps.size(); ++head) {
    const std::string name = branch_name(static_cast<int64_t>(head));
    const at::Tensor mask = keep.empty() ? at::Tensor() : keep[head];
    const bool is_mine = static_cast<int>(head) % sharers.size() == sharers.rank();
    const auto function = [config = config_, name, mask, is_mine](std::span<const at::Tensor> params,
                                                                  std::span<const at::Tensor> in) {
      if (!is_mine) return Tensors{at::zeros({in[0].size(0)}, in[0].options())};
      return Tensors{unit_logit(params, config, name, in[0], mask)};
    };
    logits.push_back(run_unit(network_, network_.unit(name), weight_gradients, function, {maps[head]})[0]);
  }
  return sharding::sum_of_dealt(network_.mesh(), at::stack(logits, 1));
}

}  // namespace tmd::model
