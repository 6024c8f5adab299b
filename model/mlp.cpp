#include "model/mlp.h"

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "model/wan_ops.h"

namespace tmd::model {

using sharding::Initialiser;
using sharding::Tensors;

void visit(ParameterVisitor& visitor, MlpWeights& mlp, const MlpConfig& config) {
  mlp.hidden.resize(static_cast<size_t>(config.hidden_layers));
  for (int64_t i = 0; i < config.hidden_layers; ++i) {
    const int64_t in = i == 0 ? config.values + config.freq_dim : config.width;
    visit_linear(visitor, mlp.hidden[static_cast<size_t>(i)], fmt::format("mlp.hidden.{}", i), config.width,
                 in);
  }
  visit_linear(visitor, mlp.out, "mlp.out", config.values, config.width);
}

void visit(ParameterVisitor& visitor, MlpFusionWeights& fusion, const MlpConfig& config) {
  const int64_t in = config.width + config.values + 2 * config.freq_dim;
  visit_linear(visitor, fusion.in, "tmd.fusion.0", config.width, in);
  visit_linear(visitor, fusion.middle, "tmd.fusion.2", config.width, config.width);
  visit_linear(visitor, fusion.out, "tmd.fusion.4", config.width, config.width, Initialiser::constant(0));
}

std::vector<sharding::UnitSpec> mlp_units(const MlpConfig& config) {
  return {declare<MlpWeights>("mlp", [&](auto& v, auto& w) { visit(v, w, config); })};
}

std::vector<sharding::UnitSpec> mlp_student_units(const MlpConfig& config) {
  std::vector<sharding::UnitSpec> units = mlp_units(config);
  units.push_back(declare<MlpFusionWeights>("fusion", [&](auto& v, auto& w) { visit(v, w, config); }));
  return units;
}

namespace {

// Wan's fastest wave turns by 1000 radians over the range of times: noise to a perceptron of this size, and
// more than the finite difference of stage 1 resolves. Here it turns by 20.
at::Tensor time_waves(const at::Tensor& time, const MlpConfig& config,
                      const sharding::ShardedNetwork& network) {
  return sinusoid(time * 0.02, config.freq_dim).to(network.device(), network.type());
}

at::Tensor last_hidden(const MlpWeights& w, const at::Tensor& latent, const at::Tensor& waves) {
  at::Tensor x = at::cat({latent.flatten(1), waves}, 1);
  for (const LinearWeights& layer : w.hidden) x = at::silu(apply(layer, x));
  return x;
}

}  // namespace

at::Tensor Mlp::velocity(const at::Tensor& latent, const at::Tensor& time, bool weight_gradients) const {
  const auto function = [config = config_](std::span<const at::Tensor> params,
                                           std::span<const at::Tensor> in) {
    const auto w = bind<MlpWeights>(params, [&](auto& v, auto& weights) { visit(v, weights, config); });
    return Tensors{apply(w.out, last_hidden(w, in[0], in[1])).view(in[0].sizes())};
  };
  const at::Tensor waves = time_waves(time, config_, network_);
  return run_unit(network_, network_.unit("mlp"), weight_gradients, function, {latent, waves})[0];
}

at::Tensor Mlp::backbone(const at::Tensor& latent, const at::Tensor& time, bool weight_gradients) const {
  const auto function = [config = config_](std::span<const at::Tensor> params,
                                           std::span<const at::Tensor> in) {
    const auto w = bind<MlpWeights>(params, [&](auto& v, auto& weights) { visit(v, weights, config); });
    return Tensors{last_hidden(w, in[0], in[1])};
  };
  const at::Tensor waves = time_waves(time, config_, network_);
  return run_unit(network_, network_.unit("mlp"), weight_gradients, function, {latent, waves})[0];
}

at::Tensor Mlp::head(const at::Tensor& y_s, const at::Tensor& inner_time, const at::Tensor& inner_step,
                     const at::Tensor& m, bool weight_gradients) const {
  const auto correct = [config = config_](std::span<const at::Tensor> params,
                                          std::span<const at::Tensor> in) {
    const auto w = bind<MlpFusionWeights>(params, [&](auto& v, auto& weights) { visit(v, weights, config); });
    const at::Tensor hidden = at::silu(apply(w.in, at::cat({in[0], in[1].flatten(1), in[2], in[3]}, 1)));
    return Tensors{in[0] + apply(w.out, at::silu(apply(w.middle, hidden)))};
  };
  const auto project = [config = config_, shape = y_s.sizes().vec()](std::span<const at::Tensor> params,
                                                                     std::span<const at::Tensor> in) {
    const auto w = bind<MlpWeights>(params, [&](auto& v, auto& weights) { visit(v, weights, config); });
    return Tensors{apply(w.out, in[0]).view(shape)};
  };
  const at::Tensor s_waves = time_waves(inner_time, config_, network_);
  const at::Tensor step_waves = time_waves(inner_step, config_, network_);
  const Tensors corrected =
      run_unit(network_, network_.unit("fusion"), weight_gradients, correct, {m, y_s, s_waves, step_waves});
  return run_unit(network_, network_.unit("mlp"), weight_gradients, project, corrected)[0];
}

}  // namespace tmd::model
