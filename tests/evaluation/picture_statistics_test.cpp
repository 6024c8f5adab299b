#include "evaluation/picture_statistics.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::evaluation {
namespace {

// Left half of one colour, right half of another; RGB 0 to 1.
at::Tensor halves(std::array<double, 3> left, std::array<double, 3> right) {
  at::Tensor video = at::empty({3, 2, 4, 4}, at::kFloat);
  for (int64_t c = 0; c < 3; ++c) {
    video[c].narrow(2, 0, 2).fill_(2 * left[c] - 1);
    video[c].narrow(2, 2, 2).fill_(2 * right[c] - 1);
  }
  return video;
}

TEST(PictureStatistics, grey_has_contrast_and_no_saturation) {
  const PictureStatistics grey = picture_statistics(halves({0, 0, 0}, {1, 1, 1}));
  EXPECT_NEAR(grey.saturation, 0, 1e-7);
  EXPECT_NEAR(grey.contrast, 0.5, 1e-7);
}

TEST(PictureStatistics, saturation_is_the_span_of_the_colours) {
  const PictureStatistics red = picture_statistics(halves({1, 0, 0}, {0.5, 0.25, 0.25}));
  EXPECT_NEAR(red.saturation, (1 + 0.25) / 2, 1e-7);
  const double left = 0.2126, right = 0.25 + 0.2126 * 0.25;
  EXPECT_NEAR(red.contrast, std::abs(left - right) / 2, 1e-7);
}

TEST(PictureStatistics, what_no_screen_can_show_is_clamped) {
  const at::Tensor video = halves({1, 0, 0}, {1, 0, 0});
  EXPECT_NEAR(picture_statistics(3 * video).saturation, 1, 1e-7);
  EXPECT_NEAR(picture_statistics(3 * video).contrast, 0, 1e-7);
}

TEST(PictureStatistics, other_shapes_and_values_are_errors) {
  EXPECT_THROW(picture_statistics(at::zeros({1, 2, 4, 4})), Error);
  EXPECT_THROW(picture_statistics(at::full({3, 1, 2, 2}, NAN)), Error);
}

}  // namespace
}  // namespace tmd::evaluation
