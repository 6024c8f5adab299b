#include "model/discriminator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../support/test_mesh.h"
#include "base/error.h"
#include "integer_hash.h"
#include "plain_discriminator.h"
#include "toy_discriminator.h"

namespace tmd::model {
namespace {

constexpr auto kConv3d = DiscriminatorKind::kConv3d, kConv1d2d = DiscriminatorKind::kConv1d2d,
               kAttention = DiscriminatorKind::kAttention;

/// A discriminator on one rank, filled.
struct Toy {
  explicit Toy(const DiscriminatorConfig& c, at::ScalarType type = at::kDouble)
      : config(c),
        network("disc", discriminator_units(config), one.mesh, type, true, one.buffers),
        discriminator(config, network) {
    test::fill_discriminator(network);
  }
  at::Tensor logits(const std::vector<at::Tensor>& maps, const std::vector<at::Tensor>& keep = {}) const {
    return discriminator.forward(maps, keep, false);
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (int unit = 0; unit < network.units(); ++unit) {
      for (const sharding::ParamSpec& param : network.spec(unit).params) names.push_back(param.name);
    }
    return names;
  }
  test::Weights copied_weights() {
    test::Weights weights;
    for (const std::string& name : names()) {
      weights[name] = network.full_parameter(name).detach().clone().requires_grad_(true);
    }
    return weights;
  }

  test::SingleMesh one;
  DiscriminatorConfig config;
  sharding::ShardedNetwork network;
  Discriminator discriminator;
};

std::vector<at::Tensor> two_maps(at::IntArrayRef shape) {
  return {test::hashed_tensor(1, shape), test::hashed_tensor(2, shape)};
}

std::vector<at::Tensor> two_masks(int64_t batch, int64_t hidden) {
  return {test::hashed_tensor(4, {batch, hidden}).gt(0).to(at::kDouble),
          test::hashed_tensor(5, {batch, hidden}).gt(0).to(at::kDouble)};
}

double distance(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

/// Logits, gradients of maps and of all weights against the plain discriminator.
void expect_plain(const DiscriminatorConfig& config, at::IntArrayRef shape, bool with_masks) {
  Toy toy(config);
  test::Weights weights = toy.copied_weights();
  const int64_t batch = shape[0];
  auto maps = two_maps(shape), plain_maps = two_maps(shape);
  for (at::Tensor& map : maps) map.requires_grad_(true);
  for (at::Tensor& map : plain_maps) map.requires_grad_(true);
  const std::vector<at::Tensor> keep =
      with_masks ? two_masks(batch, config.hidden) : std::vector<at::Tensor>();
  const at::Tensor direction = test::hashed_tensor(3, {batch, 2});

  const at::Tensor logits = toy.discriminator.forward(maps, keep, true);
  (logits * direction).sum().backward();
  const at::Tensor plain = test::plain_logits(weights, config, plain_maps, keep);
  (plain * direction).sum().backward();

  EXPECT_LT(distance(logits, plain), 1e-10);
  for (size_t i = 0; i < maps.size(); ++i) {
    EXPECT_LT(distance(maps[i].grad(), plain_maps[i].grad()), 1e-10) << "map " << i;
    EXPECT_GT(maps[i].grad().norm().item<double>(), 0) << "map " << i;
  }
  for (const auto& [name, weight] : weights) {
    const at::Tensor gradient = toy.network.full_gradient(name);
    EXPECT_LT(distance(gradient, weight.grad()), 1e-10) << name;
  }
}

class EveryKind : public testing::TestWithParam<DiscriminatorKind> {
 protected:
  DiscriminatorConfig config() const { return test::toy_discriminator(GetParam()); }
};

INSTANTIATE_TEST_SUITE_P(Discriminator, EveryKind, testing::Values(kConv3d, kConv1d2d, kAttention),
                         [](const auto& instance) { return test::kind_name(instance.param); });

TEST_P(EveryKind, is_the_plain_one) { expect_plain(config(), {3, 8, 5, 6, 7}, /*with_masks=*/false); }

TEST_P(EveryKind, is_the_plain_one_with_dropout) {
  expect_plain(config(), {2, 8, 4, 6, 6}, /*with_masks=*/true);
}

TEST_P(EveryKind, is_the_plain_one_on_a_map_of_few_positions) {
  expect_plain(config(), {2, 8, 1, 2, 3}, /*with_masks=*/false);
}

TEST_P(EveryKind, every_weight_gets_a_gradient) {
  Toy toy(config());

  toy.discriminator.forward(two_maps({2, 8, 5, 9, 9}), two_masks(2, 16), true).square().sum().backward();

  for (const std::string& name : toy.names()) {
    // A number that is added to all scores of a query changes none of its shares.
    const bool is_bias_of_keys = name.ends_with(".k.bias");
    const double norm = toy.network.full_gradient(name).norm().item<double>();
    EXPECT_TRUE(is_bias_of_keys ? norm < 1e-12 : norm > 1e-6) << name << ": " << norm;
  }
}

TEST_P(EveryKind, map_gradients_are_finite_differences) {
  Toy toy(config());
  auto maps = two_maps({1, 8, 3, 4, 5});
  const at::Tensor direction = test::hashed_tensor(7, {1, 8, 3, 4, 5});
  const auto logit = [&](double step) {
    return toy.logits({maps[0] + step * direction, maps[1]})[0][0].item<double>();
  };
  const double difference = (logit(1e-5) - logit(-1e-5)) / 2e-5;

  maps[0].requires_grad_(true);
  toy.logits(maps).select(1, 0).sum().backward();

  EXPECT_NEAR((maps[0].grad() * direction).sum().item<double>(), difference, 1e-7);
}

TEST_P(EveryKind, dropout_mask_scales_what_it_keeps) {
  Toy toy(config());
  const auto maps = two_maps({1, 8, 4, 4, 4});
  const at::Tensor all = at::ones({1, 16}, at::kDouble), none = at::zeros({1, 16}, at::kDouble);
  const at::Tensor bias = toy.network.full_parameter("disc.0.fc2.bias");

  const double plain = (toy.logits(maps)[0][0] - bias).item<double>();
  const double kept = (toy.logits(maps, {all, all})[0][0] - bias).item<double>();
  const double dropped = (toy.logits(maps, {none, none})[0][0] - bias).item<double>();

  EXPECT_NE(plain, 0);
  EXPECT_EQ(dropped, 0) << "only the last bias is left";
  EXPECT_NEAR(kept, 2 * plain, 1e-12) << "kept values are divided by 1 - p";
}

TEST_P(EveryKind, frozen_pass_gives_gradients_to_the_maps_only) {
  Toy toy(config());
  auto maps = two_maps({1, 8, 4, 4, 4});
  maps[0].requires_grad_(true);

  toy.logits(maps).sum().backward();

  EXPECT_GT(maps[0].grad().norm().item<double>(), 0);
  for (const std::string& name : toy.names()) {
    EXPECT_EQ(toy.network.full_gradient(name).norm().item<double>(), 0) << name;
  }
}

TEST_P(EveryKind, float32_is_near_float64_and_repeats_its_bits) {
  Toy exact(config()), single(config(), at::kFloat);
  const auto maps = two_maps({2, 8, 5, 6, 7});
  const std::vector<at::Tensor> single_maps = {maps[0].to(at::kFloat), maps[1].to(at::kFloat)};

  const at::Tensor logits = single.logits(single_maps);

  EXPECT_EQ(logits.scalar_type(), at::kFloat);
  EXPECT_LT(distance(logits, exact.logits(maps)), 2e-5);
  EXPECT_TRUE(logits.equal(single.logits(single_maps)));
}

TEST_P(EveryKind, another_number_of_maps_than_heads_is_refused) {
  Toy toy(config());
  EXPECT_THROW(toy.logits({test::hashed_tensor(1, {1, 8, 2, 4, 4})}), Error);
}

TEST(Discriminator, kinds_give_different_logits) {
  const auto maps = two_maps({1, 8, 4, 6, 6});
  const at::Tensor conv3d = Toy(test::toy_discriminator(kConv3d)).logits(maps),
                   conv1d2d = Toy(test::toy_discriminator(kConv1d2d)).logits(maps),
                   attention = Toy(test::toy_discriminator(kAttention)).logits(maps);

  EXPECT_GT(distance(conv3d, conv1d2d), 1e-3);
  EXPECT_GT(distance(conv3d, attention), 1e-3);
  EXPECT_GT(distance(conv1d2d, attention), 1e-3);
}

TEST(Discriminator, branches_have_names_and_shapes_by_kind) {
  const auto shape = [](DiscriminatorKind kind, const std::string& name) {
    for (const sharding::UnitSpec& unit : discriminator_units(test::toy_discriminator(kind))) {
      for (const sharding::ParamSpec& param : unit.params) {
        if (param.name == name) return param.shape;
      }
    }
    return std::vector<int64_t>();
  };
  using Shape = std::vector<int64_t>;

  EXPECT_EQ(shape(kConv3d, "disc.1.scale2.conv3.weight"), (Shape{8, 8, 3, 3, 3}));
  EXPECT_EQ(shape(kConv3d, "disc.0.fc1.weight"), (Shape{16, 24}));
  EXPECT_EQ(shape(kConv1d2d, "disc.0.pair0.temporal.weight"), (Shape{6, 8, 3, 1, 1}));
  EXPECT_EQ(shape(kConv1d2d, "disc.1.pair2.spatial.weight"), (Shape{16, 16, 1, 3, 3}));
  EXPECT_EQ(shape(kConv1d2d, "disc.0.fc1.weight"), (Shape{16, 16}));
  EXPECT_EQ(shape(kAttention, "disc.0.embed.weight"), (Shape{12, 8}));
  EXPECT_EQ(shape(kAttention, "disc.1.layer1.mlp1.weight"), (Shape{48, 12}));
  EXPECT_EQ(shape(kAttention, "disc.0.fc1.weight"), (Shape{16, 12}));
}

TEST(Conv3dBranch, reduction_narrows_the_branches_and_not_what_they_read) {
  DiscriminatorConfig config = test::toy_discriminator(kConv3d);
  config.reduction = 2;
  Toy toy(config);

  EXPECT_EQ(toy.network.full_parameter("disc.0.scale1.conv1.weight").sizes(),
            (std::vector<int64_t>{4, 8, 1, 1, 1}));
  EXPECT_EQ(toy.network.full_parameter("disc.0.scale1.conv3.weight").sizes(),
            (std::vector<int64_t>{4, 4, 3, 3, 3}));
  EXPECT_EQ(toy.network.full_parameter("disc.0.fc1.weight").sizes(), (std::vector<int64_t>{16, 12}));
  expect_plain(config, {2, 8, 4, 6, 6}, /*with_masks=*/false);
}

TEST(AttentionBranch, tokens_may_be_means_of_squares_of_positions) {
  DiscriminatorConfig config = test::toy_discriminator(kAttention);
  config.attention.pool = 2;
  expect_plain(config, {2, 8, 3, 4, 6}, /*with_masks=*/true);
  expect_plain(config, {2, 8, 3, 5, 1}, /*with_masks=*/false);
}

// Positions come with the features: the branch itself knows none.
TEST(AttentionBranch, order_of_positions_does_not_matter) {
  const auto maps = two_maps({1, 8, 3, 4, 5});
  const auto moved = [&](DiscriminatorKind kind) {
    Toy toy(test::toy_discriminator(kind));
    return distance(toy.logits(maps), toy.logits({maps[0].flip({2, 4}), maps[1].flip({3})}));
  };
  EXPECT_LT(moved(kAttention), 1e-12);
  EXPECT_GT(moved(kConv3d), 1e-3);
  EXPECT_GT(moved(kConv1d2d), 1e-3);
}

}  // namespace
}  // namespace tmd::model
