#include "evaluation/frame_mass.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace tmd::evaluation {
namespace {

// Black video of 2 frames of 8 x 8.
at::Tensor black() { return at::full({3, 2, 8, 8}, -1.0, at::kFloat); }

// Sets red to `value` (0 to 1) in a rectangle of frame 1.
void paint(at::Tensor& video, int64_t y, int64_t x, int64_t height, int64_t width, double value = 1) {
  video[0][1].narrow(0, y, height).narrow(1, x, width).fill_(2 * value - 1);
}

TEST(MeasureFrame, rectangle_has_its_mass_centroid_and_colour) {
  at::Tensor video = black();
  paint(video, 2, 1, 2, 4);
  const FrameMass frame = measure_frame(video, 1, 0.25);
  EXPECT_DOUBLE_EQ(frame.sum, 8 * 0.75);
  EXPECT_DOUBLE_EQ(frame.sum_squares, 8 * 0.75 * 0.75);
  EXPECT_DOUBLE_EQ(frame.x, 3);
  EXPECT_DOUBLE_EQ(frame.y, 3);
  EXPECT_DOUBLE_EQ(frame.colour[0], 6);
  EXPECT_DOUBLE_EQ(frame.colour[1], 0);
  EXPECT_DOUBLE_EQ(frame.brightness[2 * 8 + 1], 1);
}

TEST(MeasureFrame, empty_frame_has_its_centroid_in_the_middle) {
  const FrameMass frame = measure_frame(black(), 0, 0.25);
  EXPECT_EQ(frame.sum, 0);
  EXPECT_EQ(frame.x, 4);
  EXPECT_EQ(frame.y, 4);
}

TEST(MeasureFrame, background_does_not_weigh_and_excess_is_clamped) {
  at::Tensor video = black();
  paint(video, 0, 0, 8, 8, 0.2);
  paint(video, 5, 6, 1, 1, 3);
  const FrameMass frame = measure_frame(video, 1, 0.25);
  EXPECT_DOUBLE_EQ(frame.sum, 0.75);
  EXPECT_DOUBLE_EQ(frame.x, 6.5);
  EXPECT_DOUBLE_EQ(frame.y, 5.5);
}

TEST(BrightRegions, separate_regions_are_counted_largest_first) {
  at::Tensor video = black();
  paint(video, 0, 0, 1, 2);
  paint(video, 4, 3, 3, 3);
  EXPECT_EQ(bright_regions(measure_frame(video, 1, 0.1), 0.5), (std::vector<int64_t>{9, 2}));
  EXPECT_TRUE(bright_regions(measure_frame(video, 0, 0.1), 0.5).empty());
}

TEST(BrightRegions, pixels_that_touch_at_a_corner_are_one_region_and_rows_do_not_wrap) {
  at::Tensor video = black();
  paint(video, 1, 1, 1, 1);
  paint(video, 2, 2, 1, 1);
  EXPECT_EQ(bright_regions(measure_frame(video, 1, 0.1), 0.5), (std::vector<int64_t>{2}));
  at::Tensor borders = black();
  paint(borders, 3, 7, 1, 1);
  paint(borders, 4, 0, 1, 1);
  EXPECT_EQ(bright_regions(measure_frame(borders, 1, 0.1), 0.5), (std::vector<int64_t>{1, 1}));
}

}  // namespace
}  // namespace tmd::evaluation
