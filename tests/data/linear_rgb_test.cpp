#include "data/linear_rgb.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/data/expect_error.h"

namespace tmd::data {
namespace {

TEST(LinearRgb, each_colour_is_its_own_sum_over_channels) {
  // Channel c is (-1)^c (c + 1) / 8 at one position; the sums were computed by hand from Wan 5.4.
  at::Tensor z = at::zeros({16, 2, 3, 4}, at::kDouble);
  for (int c = 0; c < 16; ++c) z[c][1][2][0].fill_((c % 2 == 0 ? 1 : -1) * (c + 1) / 8.0);

  const at::Tensor rgb = linear_rgb(z);

  ASSERT_EQ(rgb.sizes(), at::IntArrayRef({3, 2, 3, 4}));
  constexpr double kExpected[3] = {-0.1794625, 0.169275, -0.5825125}, kBias[3] = {-0.1835, -0.0868, -0.3360};
  for (int colour = 0; colour < 3; ++colour) {
    EXPECT_NEAR(rgb[colour][1][2][0].item<double>(), kExpected[colour], 1e-12) << colour;
    EXPECT_NEAR(rgb[colour][0][1][3].item<double>(), kBias[colour], 1e-12) << colour;
  }
}

TEST(LinearRgb, single_channels_give_their_rows) {
  constexpr double kExpected[3][3] = {
      {-0.3134, -0.256, -0.0428}, {-0.1669, 0.1034, -0.1385}, {0.0149, 0.0045, -0.1499}};
  constexpr int kChannels[3] = {0, 7, 15};
  for (int i = 0; i < 3; ++i) {
    at::Tensor z = at::zeros({16, 1, 1, 1}, at::kDouble);
    z[kChannels[i]].fill_(1);
    for (int colour = 0; colour < 3; ++colour) {
      EXPECT_NEAR(linear_rgb(z).flatten()[colour].item<double>(), kExpected[i][colour], 1e-12)
          << kChannels[i];
    }
  }
}

TEST(LinearRgb, colours_are_clamped_and_keep_the_type) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor rgb =
        linear_rgb(at::stack({at::full({16, 1, 1}, 9), at::full({16, 1, 1}, -9)}, 1).to(type));
    EXPECT_EQ(rgb.scalar_type(), type);
    EXPECT_EQ(rgb.max().item<double>(), 1);
    EXPECT_EQ(rgb.min().item<double>(), -1);
  }
}

TEST(LinearRgb, other_shapes_are_refused) {
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{15, 1, 2, 2}, {1, 16, 1, 2, 2}, {16, 2, 2}}) {
    expect_error(ErrorKind::kData, "latents [16, T, h, w], not", [&] { linear_rgb(at::zeros(shape)); });
  }
}

}  // namespace
}  // namespace tmd::data
