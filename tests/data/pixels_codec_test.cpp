#include "data/pixels_codec.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/data/expect_error.h"

namespace tmd::data {
namespace {

TEST(PixelsCodec, encode_puts_each_pixel_at_its_channel) {
  const at::Tensor video = at::arange(3 * 2 * 4 * 6, at::kFloat).reshape({3, 2, 4, 6});
  const at::Tensor latent = PixelsCodec().encode(video);
  ASSERT_EQ(latent.sizes(), at::IntArrayRef({12, 2, 2, 3}));
  for (int64_t c = 0; c < 3; ++c) {
    for (int64_t dy = 0; dy < 2; ++dy) {
      for (int64_t dx = 0; dx < 2; ++dx) {
        for (int64_t y = 0; y < 2; ++y) {
          for (int64_t x = 0; x < 3; ++x) {
            EXPECT_EQ(latent[(c * 2 + dy) * 2 + dx][1][y][x].item<float>(),
                      video[c][1][2 * y + dy][2 * x + dx].item<float>());
          }
        }
      }
    }
  }
}

TEST(PixelsCodec, exact_both_ways) {
  const PixelsCodec codec;
  const at::Tensor video = at::rand({3, 3, 8, 10}), latent = at::rand({12, 2, 3, 5}, at::kDouble);
  EXPECT_TRUE(codec.decode(codec.encode(video)).equal(video));
  EXPECT_TRUE(codec.encode(codec.decode(latent)).equal(latent));
}

TEST(PixelsCodec, wrong_shapes) {
  expect_error(ErrorKind::kData, "not 3x2x5x6", [] { PixelsCodec().encode(at::zeros({3, 2, 5, 6})); });
  expect_error(ErrorKind::kData, "not 16x2x4x4", [] { PixelsCodec().decode(at::zeros({16, 2, 4, 4})); });
}

}  // namespace
}  // namespace tmd::data
