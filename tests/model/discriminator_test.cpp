#include "model/discriminator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "../support/test_mesh.h"
#include "integer_hash.h"
#include "sharding/initialise.h"

namespace tmd::model {
namespace {

class SmallDiscriminator : public testing::Test {
 protected:
  SmallDiscriminator()
      : config_{.channels = 8, .heads = 2, .scales = {1, 2, 4}, .hidden = 16, .dropout = 0.5},
        network_("disc", discriminator_units(config_), one_.mesh, at::kDouble, true, one_.buffers),
        discriminator_(config_, network_) {
    sharding::initialise(network_, 3);
  }

  std::vector<at::Tensor> maps(at::IntArrayRef shape) const {
    return {test::hashed_tensor(1, shape), test::hashed_tensor(2, shape)};
  }

  test::SingleMesh one_;
  DiscriminatorConfig config_;
  sharding::ShardedNetwork network_;
  Discriminator discriminator_;
};

TEST_F(SmallDiscriminator, gives_one_logit_per_sample_and_map) {
  EXPECT_EQ(discriminator_.forward(maps({3, 8, 4, 6, 6}), {}, false).sizes(), (std::vector<int64_t>{3, 2}));
}

TEST_F(SmallDiscriminator, maps_smaller_than_a_scale_are_pooled_per_axis) {
  const at::Tensor logits = discriminator_.forward(maps({2, 8, 1, 2, 3}), {}, false);

  EXPECT_TRUE(logits.isfinite().all().item<bool>());
  EXPECT_NE(logits[0][0].item<double>(), logits[1][0].item<double>()) << "samples differ";
}

TEST_F(SmallDiscriminator, dropout_mask_scales_what_it_keeps) {
  const auto inputs = maps({1, 8, 4, 4, 4});
  const at::Tensor keep_all = at::ones({1, 16}, at::kDouble);
  const at::Tensor keep_none = at::zeros({1, 16}, at::kDouble);

  const at::Tensor none = discriminator_.forward(inputs, {keep_none, keep_none}, false);
  const at::Tensor plain = discriminator_.forward(inputs, {}, false);
  const at::Tensor all = discriminator_.forward(inputs, {keep_all, keep_all}, false);

  EXPECT_EQ(none[0][0].item<double>(), 0) << "the last bias is zero at the start";
  EXPECT_NEAR(all[0][0].item<double>(), 2 * plain[0][0].item<double>(), 1e-12)
      << "kept values are divided by 1 - p";
}

TEST(Discriminator, reduction_narrows_the_branches_and_not_what_they_read) {
  test::SingleMesh one;
  const DiscriminatorConfig config{
      .channels = 8, .heads = 1, .reduction = 2, .scales = {1, 2}, .hidden = 16, .dropout = 0.5};
  sharding::ShardedNetwork network("disc", discriminator_units(config), one.mesh, at::kDouble, true,
                                   one.buffers);
  sharding::initialise(network, 3);

  EXPECT_EQ(network.full_parameter("disc.0.scale1.conv1.weight").sizes(),
            (std::vector<int64_t>{4, 8, 1, 1, 1}));
  EXPECT_EQ(network.full_parameter("disc.0.scale1.conv3.weight").sizes(),
            (std::vector<int64_t>{4, 4, 3, 3, 3}));
  EXPECT_EQ(network.full_parameter("disc.0.fc1.weight").sizes(), (std::vector<int64_t>{16, 8}));
  const at::Tensor map = test::hashed_tensor(1, {2, 8, 4, 6, 6});
  EXPECT_EQ(Discriminator(config, network).forward({map}, {}, false).sizes(), (std::vector<int64_t>{2, 1}));
}

TEST_F(SmallDiscriminator, frozen_pass_gives_gradients_to_the_maps_only) {
  auto inputs = maps({1, 8, 4, 4, 4});
  inputs[0].requires_grad_(true);

  discriminator_.forward(inputs, {}, false).sum().backward();

  EXPECT_GT(inputs[0].grad().norm().item<double>(), 0);
  EXPECT_EQ(network_.full_gradient("disc.0.fc1.weight").norm().item<double>(), 0);
}

}  // namespace
}  // namespace tmd::model
