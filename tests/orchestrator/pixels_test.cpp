#include "orchestrator/pixels.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::orchestrator {
namespace {

TEST(ToRgbBytes, channels_are_interleaved_row_by_row) {
  const at::Tensor rgb = at::tensor({-1.0, 1.0, 0.2, -1.0, 1.0, -1.0}, at::kDouble).view({3, 1, 2});
  EXPECT_EQ(to_rgb_bytes(rgb), (std::vector<uint8_t>{0, 153, 255, 255, 0, 0}));
}

TEST(ToRgbBytes, excess_is_clamped_and_what_is_not_finite_is_black) {
  const at::Tensor rgb = at::tensor({-7.0, 7.0, NAN, INFINITY, -INFINITY, 0.0}, at::kFloat).view({3, 2, 1});
  EXPECT_EQ(to_rgb_bytes(rgb), (std::vector<uint8_t>{0, 0, 0, 255, 0, 128}));
}

TEST(ToRgbBytes, other_shape_is_an_error) {
  EXPECT_THROW(to_rgb_bytes(at::ones({1, 4, 4})), Error);
  EXPECT_THROW(to_rgb_bytes(at::ones({3, 0, 4})), Error);
  EXPECT_THROW(to_rgb_bytes(at::ones({3, 2, 4, 4})), Error);
}

}  // namespace
}  // namespace tmd::orchestrator
