#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "comm/single_communicator.h"
#include "mpi_main.h"
#include "sharding/initialise.h"
#include "sharding/linear.h"
#include "sharding/run_unit.h"

namespace tmd::sharding {
namespace {

constexpr int64_t kWidth = 13;  // odd, so that shards end inside a row

std::vector<UnitSpec> chain(int units) {
  std::vector<UnitSpec> list;
  for (int i = 0; i < units; ++i) {
    const std::string name = "unit" + std::to_string(i);
    list.push_back({name,
                    {{name + ".w", {kWidth, kWidth}, Initialiser::xavier_uniform(kWidth, kWidth)},
                     {name + ".b", {kWidth}, Initialiser::normal(0.1)}}});
  }
  return list;
}

Tensors layer(std::span<const at::Tensor> params, std::span<const at::Tensor> inputs) {
  return {inputs[0] + at::tanh(at::linear(inputs[0], params[0], params[1]))};
}

// The second half of the chain runs twice, as in a rollout.
at::Tensor run_chain(ShardedNetwork& network, at::Tensor x, bool weight_gradients) {
  for (int i = 0; i < network.units(); ++i) x = run_unit(network, i, weight_gradients, layer, {x})[0];
  for (int i = network.units() / 2; i < network.units(); ++i)
    x = run_unit(network, i, weight_gradients, layer, {x})[0];
  return x;
}

at::Tensor batch() { return at::sin(at::arange(12 * kWidth, at::kDouble)).view({12, kWidth}); }

// Rows of the batch that this rank has; 12 divides by 1, 2, 3 and 4.
at::Tensor own_rows() {
  const int64_t each = 12 / test::world().size();
  return batch().narrow(0, test::world().rank() * each, each);
}

struct Plain {
  Tensors params;
  at::Tensor x;
  at::Tensor loss;
};

// The same chain as ordinary autograd on whole parameters.
Plain run_plain(ShardedNetwork& network, const at::Tensor& rows) {
  Plain plain;
  plain.x = rows.clone().requires_grad_(true);
  for (int i = 0; i < network.units(); ++i) {
    for (const ParamSpec& param : network.spec(i).params)
      plain.params.push_back(network.full_parameter(param.name).requires_grad_(true));
  }
  at::Tensor x = plain.x;
  const auto apply = [&](int i) {
    x = layer(std::span(plain.params).subspan(static_cast<size_t>(2 * i), 2), std::span(&x, 1))[0];
  };
  for (int i = 0; i < network.units(); ++i) apply(i);
  for (int i = network.units() / 2; i < network.units(); ++i) apply(i);
  plain.loss = x.square().sum();
  plain.loss.backward();
  return plain;
}

class Chain : public testing::Test {
 protected:
  Chain()
      : mesh_({.replicate = 1, .shard = test::world().size(), .sequence = 1, .tensor = 1}, test::world()),
        network_("chain", chain(6), mesh_, at::kDouble, true, buffers_) {
    initialise(network_, 1);
  }
  ~Chain() override { mesh_.close(); }
  Mesh mesh_;
  GatherBuffers buffers_;
  ShardedNetwork network_;
};

}  // namespace

TEST_F(Chain, gradients_equal_those_of_plain_autograd) {
  const Plain plain = run_plain(network_, batch());

  run_chain(network_, own_rows().clone(), true).square().sum().backward();

  size_t i = 0;
  for (int unit = 0; unit < network_.units(); ++unit) {
    for (const ParamSpec& param : network_.spec(unit).params) {
      const at::Tensor expected = plain.params[i++].grad(), actual = network_.full_gradient(param.name);
      if (test::world().size() == 1) {
        EXPECT_TRUE(actual.equal(expected)) << param.name << ": bit for bit on one rank";
      } else {
        EXPECT_LT((actual - expected).norm().item<double>(), 1e-12 * expected.norm().item<double>())
            << param.name;
      }
    }
  }
}

// Used twice by `linear`, which writes where the gradients are collected, and once by something else.
TEST_F(Chain, gradients_of_linear_equal_those_of_plain_autograd) {
  const auto thrice = [](std::span<const at::Tensor> params, std::span<const at::Tensor> in) {
    const at::Tensor once = sharding::linear(in[0], params[0], params[1]).tanh();
    return Tensors{sharding::linear(once.unsqueeze(0), params[0], {}).squeeze(0) + in[0] * params[0].select(0, 1)};
  };
  Tensors params;
  for (const ParamSpec& param : network_.spec(2).params)
    params.push_back(network_.full_parameter(param.name).requires_grad_(true));
  const at::Tensor x = batch().requires_grad_(true), rows = own_rows().clone().requires_grad_(true);
  thrice(params, std::span(&x, 1))[0].square().sum().backward();

  for (int pass = 1; pass <= 2; ++pass) {
    run_unit(network_, 2, true, thrice, {rows})[0].square().sum().backward();
    for (size_t i = 0; i < params.size(); ++i) {
      const at::Tensor expected = pass * params[i].grad();
      const at::Tensor actual = network_.full_gradient(network_.spec(2).params[i].name);
      EXPECT_LT((actual - expected).norm().item<double>(), 1e-13 * expected.norm().item<double>());
    }
  }
  const at::Tensor own = x.grad().chunk(test::world().size())[test::world().rank()];
  EXPECT_LT((rows.grad() - 2 * own).abs().max().item<double>(), 1e-12);
}

TEST_F(Chain, frozen_network_gives_input_gradients_and_collects_none) {
  const Plain plain = run_plain(network_, own_rows());
  const at::Tensor x = own_rows().clone().requires_grad_(true);

  run_chain(network_, x, false).square().sum().backward();

  EXPECT_LT((x.grad() - plain.x.grad()).abs().max().item<double>(), 1e-12);
  EXPECT_EQ(network_.full_gradient("unit0.w").abs().max().item<double>(), 0);
}

TEST_F(Chain, passes_without_graph_leave_nothing_behind) {
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(run_chain(network_, own_rows().clone(), true).requires_grad());
  EXPECT_EQ(network_.full_gradient("unit5.w").abs().max().item<double>(), 0);
}

TEST_F(Chain, gradients_of_several_passes_add_up) {
  run_chain(network_, own_rows().clone(), true).square().sum().backward();
  const at::Tensor once = network_.full_gradient("unit3.w");
  run_chain(network_, own_rows().clone(), true).square().sum().backward();

  EXPECT_LT((network_.full_gradient("unit3.w") - 2 * once).abs().max().item<double>(), 1e-12);
  network_.zero_gradients();
  EXPECT_EQ(network_.full_gradient("unit3.w").abs().max().item<double>(), 0);
}

TEST_F(Chain, unused_outputs_of_a_unit_are_no_error) {
  const auto two = [](std::span<const at::Tensor> params, std::span<const at::Tensor> in) {
    return Tensors{at::linear(in[0], params[0], params[1]), in[0] * params[1]};
  };
  const Tensors out = run_unit(network_, 0, true, two, {own_rows().clone()});
  out[1].sum().backward();
  EXPECT_EQ(network_.full_gradient("unit0.w").abs().max().item<double>(), 0);
  EXPECT_GT(network_.full_gradient("unit0.b").abs().max().item<double>(), 0);
}

TEST(Replicas, two_copies_give_the_gradients_of_one) {
  comm::Communicator& world = test::world();
  if (world.size() % 2 != 0) return;  // replicate 2 needs an even number of ranks; 2 and 4 are run
  Mesh mesh({.replicate = 2, .shard = world.size() / 2, .sequence = 1, .tensor = 1}, world);
  GatherBuffers buffers;
  ShardedNetwork network("chain", chain(4), mesh, at::kDouble, true, buffers);
  initialise(network, 1);
  const Plain plain = run_plain(network, batch());

  run_chain(network, own_rows().clone(), true).square().sum().backward();
  network.reduce_over_replicas();

  const at::Tensor expected = plain.params[2].grad();
  EXPECT_LT((network.full_gradient("unit1.w") - expected).norm().item<double>(),
            1e-12 * expected.norm().item<double>());
  mesh.close();
}

}  // namespace tmd::sharding
