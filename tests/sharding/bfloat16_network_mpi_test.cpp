#include <memory>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "comm/agree.h"
#include "mpi_main.h"
#include "sharding/initialise.h"
#include "sharding/network_bytes.h"
#include "sharding/run_unit.h"

namespace tmd::sharding {
namespace {

constexpr int64_t kWidth = 13;

// A matrix in bfloat16 and a scale that stays in float32.
std::vector<UnitSpec> units() {
  ParamSpec scale{"scale", {kWidth}, Initialiser::normal(1)};
  scale.wide = true;
  return {{"unit", {{"w", {kWidth, kWidth}, Initialiser::xavier_uniform(kWidth, kWidth)}, scale}}};
}

Tensors layer(std::span<const at::Tensor> params, std::span<const at::Tensor> inputs) {
  const at::Tensor product = at::linear(inputs[0].to(params[0].scalar_type()), params[0]);
  return {inputs[0] + product.to(at::kFloat) * params[1].to(at::kFloat)};
}

at::Tensor batch() { return at::sin(at::arange(12 * kWidth, at::kFloat)).view({12, kWidth}); }

class Bfloat16Network : public testing::Test {
 protected:
  Bfloat16Network()
      : mesh_({.replicate = 1, .shard = test::world().size(), .sequence = 1, .tensor = 1}, test::world()) {}
  void TearDown() override { mesh_.close(); }

  std::unique_ptr<ShardedNetwork> make(at::ScalarType type, bool trainable) {
    auto network = std::make_unique<ShardedNetwork>("network", units(), mesh_, type, trainable, buffers_);
    initialise(*network, 3);
    return network;
  }

  Mesh mesh_;
  GatherBuffers buffers_;
};

TEST_F(Bfloat16Network, what_is_gathered_is_rounded_but_for_wide_parameters) {
  const auto exact_owner = make(at::kFloat, false);
  ShardedNetwork& exact = *exact_owner;
  const at::Tensor w = exact.full_parameter("w"), scale = exact.full_parameter("scale");
  for (const bool trainable : {false, true}) {
    const auto narrow_owner = make(at::kBFloat16, trainable);
    ShardedNetwork& narrow = *narrow_owner;
    {
      const auto gathered = narrow.gather(0);
      EXPECT_EQ(gathered.params[0].scalar_type(), at::kBFloat16);
      EXPECT_TRUE(gathered.params[0].equal(w.to(at::kBFloat16)));
      EXPECT_EQ(gathered.params[1].scalar_type(), at::kFloat);
      EXPECT_TRUE(gathered.params[1].equal(scale));
    }
    EXPECT_EQ(narrow.wide_type(), at::kFloat);
    EXPECT_EQ(narrow.shard(0).master.defined(), trainable);
    // Masters keep what a cast on the way rounds.
    EXPECT_EQ(narrow.full_parameter("w").equal(w), trainable);
  }
}

TEST_F(Bfloat16Network, gradients_are_summed_in_float32_and_equal_those_of_one_process) {
  const auto network_owner = make(at::kBFloat16, true);
  ShardedNetwork& network = *network_owner;
  network.zero_gradients();
  const int64_t each = 12 / test::world().size();
  const at::Tensor rows = batch().narrow(0, test::world().rank() * each, each).clone().requires_grad_(true);
  const at::Tensor loss = run_unit(network, 0, true, layer, {rows})[0].square().sum();
  torch::autograd::backward({loss}, {});

  Tensors plain = {network.full_parameter("w").to(at::kBFloat16).requires_grad_(true),
                   network.full_parameter("scale").requires_grad_(true)};
  at::Tensor sum_w, sum_scale;
  for (int rank = 0; rank < test::world().size(); ++rank) {  // as many parts as ranks: each rounds on its own
    const at::Tensor part = batch().narrow(0, rank * each, each);
    const at::Tensor part_loss = layer(plain, std::vector<at::Tensor>{part})[0].square().sum();
    const auto grads = torch::autograd::grad({part_loss}, {plain[0], plain[1]});
    EXPECT_EQ(grads[0].scalar_type(), at::kBFloat16);
    sum_w = sum_w.defined() ? sum_w + grads[0].to(at::kFloat) : grads[0].to(at::kFloat);
    sum_scale = sum_scale.defined() ? sum_scale + grads[1] : grads[1];
  }
  EXPECT_EQ(network.shard(0).gradient.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::allclose(network.full_gradient("w"), sum_w, 1e-6, 1e-6));
  EXPECT_TRUE(at::allclose(network.full_gradient("scale"), sum_scale, 1e-6, 1e-6));
}

TEST_F(Bfloat16Network, padding_is_finite_and_zero) {
  for (const bool trainable : {false, true}) {
    const auto narrow_owner = make(at::kBFloat16, trainable);
    ShardedNetwork& narrow = *narrow_owner;
    double kept = 0;
    for (const at::Tensor& part : narrow.shard(0).parts)
      kept += part.to(at::kDouble).square().sum().item<double>();
    if (trainable) kept = narrow.shard(0).master.to(at::kDouble).square().sum().item<double>();
    double sums[] = {kept};
    comm::sum(test::world(), sums);
    const double all = narrow.full_parameter("w").to(at::kDouble).square().sum().item<double>() +
                       narrow.full_parameter("scale").to(at::kDouble).square().sum().item<double>();
    EXPECT_NEAR(sums[0], all, 1e-12 * all);
  }
}

TEST_F(Bfloat16Network, bytes_are_foretold) {
  for (const bool trainable : {false, true}) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      const auto network_owner = make(type, trainable);
      ShardedNetwork& network = *network_owner;
      const UnitShard& shard = network.shard(0);
      int64_t kept = trainable ? static_cast<int64_t>(shard.master.nbytes() + shard.gradient.nbytes()) : 0;
      if (!trainable) {
        for (const at::Tensor& part : shard.parts) kept += static_cast<int64_t>(part.nbytes());
      }
      const NetworkBytes bytes = network_bytes(units(), {.shards = test::world().size()}, type, trainable);
      EXPECT_EQ(bytes.kept, kept);
      GatherBuffers own;
      const ShardedNetwork alone("network", units(), mesh_, type, trainable, own);
      EXPECT_EQ(bytes.buffers, own.bytes()) << type << trainable;
    }
  }
}

}  // namespace
}  // namespace tmd::sharding
