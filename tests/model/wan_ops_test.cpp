#include "model/wan_ops.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "model/fused_ops.h"

namespace tmd::model {

TEST(Sinusoid, has_cosines_first_and_the_published_values) {
  const at::Tensor waves = sinusoid(at::full({1}, 999.0, at::kDouble), 256)[0];

  const double cosines[] = {0.9996498529808264, 0.9637824785873085, -0.3989917577166561, 0.7048204956510541};
  const double sines[] = {-0.026460752737064126, -0.26668958353881084, -0.916954512107429,
                          0.7093856982701318};
  for (int i = 0; i < 4; ++i) {
    EXPECT_NEAR(waves[i].item<double>(), cosines[i], 1e-12);
    EXPECT_NEAR(waves[128 + i].item<double>(), sines[i], 1e-12);
  }
}

TEST(Rope, turns_by_frame_row_and_column) {
  const TokenGrid grid{21, 30, 52};
  const at::Tensor r = at::view_as_real(rope_rotations(grid, 128, at::kDouble))[(20 * 30 + 29) * 52 + 51];

  const std::pair<int64_t, std::pair<double, double>> expected[] = {{0, {0.4081, 0.9129}},
                                                                    {1, {0.8297, 0.5583}},
                                                                    {22, {-0.7481, -0.6636}},
                                                                    {23, {0.9893, -0.1456}},
                                                                    {43, {0.7422, 0.6702}}};
  for (const auto& [pair, value] : expected) {
    EXPECT_NEAR(r[pair][0].item<double>(), value.first, 5e-5) << pair;
    EXPECT_NEAR(r[pair][1].item<double>(), value.second, 5e-5) << pair;
  }
}

TEST(Rope, rotates_adjacent_pairs) {
  const TokenGrid grid{2, 1, 1};
  const at::Tensor x = at::ones({1, 2, 6}, at::kDouble);
  at::Tensor only_first = at::zeros({6}, at::kDouble);
  only_first[0] = 1.0;
  const RmsNormOptions options{.epsilon = 0, .type = at::kDouble, .stream = at::kDouble};

  const at::Tensor y = rms_norm_rope({{x, only_first}}, rope_rotations(grid, 6, at::kDouble), options)[0];

  EXPECT_NEAR(y[0][1][0].item<double>(), std::cos(1.0), 1e-12);  // pair 0 of the second frame
  EXPECT_NEAR(y[0][1][1].item<double>(), std::sin(1.0), 1e-12);
}

TEST(Patches, input_and_output_orders_differ_as_in_wan) {
  const at::Tensor latent = at::arange(2 * 1 * 2 * 2, at::kDouble).view({1, 2, 1, 2, 2});

  const at::Tensor patches = patchify(latent)[0][0];  // channel, ph, pw
  const at::Tensor back = unpatchify(patches.view({1, 1, 8}), {1, 1, 1});

  EXPECT_TRUE(patches.equal(at::arange(8, at::kDouble)));
  EXPECT_EQ(back[0][1][0][0][0].item<double>(),
            1);  // value 1 of (ph, pw, channel) is channel 1 of pixel (0, 0)
  EXPECT_EQ(back[0][0][0][0][1].item<double>(), 2);
}

TEST(RmsNorm, divides_by_the_root_mean_square_of_all_channels) {
  const at::Tensor x = at::tensor({3.0, 4.0}, at::kDouble).view({1, 1, 2});

  const at::Tensor y = rms_norm({{x, at::tensor({1.0, 2.0}, at::kDouble)}},
                                {.epsilon = 0, .type = at::kDouble, .stream = at::kDouble})[0];

  const double rms = std::sqrt(12.5);
  EXPECT_NEAR(y[0][0][0].item<double>(), 3 / rms, 1e-12);
  EXPECT_NEAR(y[0][0][1].item<double>(), 8 / rms, 1e-12);
}

}  // namespace tmd::model
