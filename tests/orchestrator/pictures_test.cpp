#include "orchestrator/pictures.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace tmd::orchestrator {
namespace {

// 5 frames of 2 x 3 pixels; frame f has the value `base` + f / 100.
at::Tensor video(double base) {
  return (at::arange(5, at::kFloat) / 100 + base).view({1, 5, 1, 1}).expand({3, 5, 2, 3}).contiguous();
}

double value(const at::Tensor& picture, int64_t y, int64_t x) { return picture[1][y][x].item<double>(); }

TEST(Upscaled, pixels_become_squares) {
  const at::Tensor rgb = at::arange(6, at::kFloat).view({1, 2, 3}).expand({3, 2, 3});
  const at::Tensor large = upscaled(rgb, 2);
  EXPECT_EQ(large.sizes(), at::IntArrayRef({3, 4, 6}));
  EXPECT_EQ(value(large, 0, 0), 0);
  EXPECT_EQ(value(large, 1, 1), 0);
  EXPECT_EQ(value(large, 1, 2), 1);
  EXPECT_EQ(value(large, 2, 5), 5);
  EXPECT_EQ(upscale_factor(16, 70), 4);
  EXPECT_EQ(upscale_factor(16, 5), 1);
}

TEST(VideoGrid, videos_stand_in_rows_and_columns_on_grey) {
  const at::Tensor grid =
      video_grid({{video(0.1), video(0.2)}, {video(0.3), video(0.4)}}, {.scale = 2, .gap = 1});
  ASSERT_EQ(grid.sizes(), at::IntArrayRef({3, 5, 2 * (2 * 2 + 1) + 1, 2 * (3 * 2 + 1) + 1}));
  const at::Tensor last = grid.select(1, 4);
  EXPECT_EQ(value(last, 0, 0), 0);
  EXPECT_NEAR(value(last, 1, 1), 0.14, 1e-6);
  EXPECT_NEAR(value(last, 4, 6), 0.14, 1e-6);
  EXPECT_EQ(value(last, 4, 7), 0);
  EXPECT_NEAR(value(last, 4, 8), 0.24, 1e-6);
  EXPECT_EQ(value(last, 5, 8), 0);
  EXPECT_NEAR(value(last, 6, 1), 0.34, 1e-6);
  EXPECT_NEAR(value(last, 9, 13), 0.44, 1e-6);
}

TEST(VideoGrid, ragged_rows_and_other_sizes_are_errors) {
  EXPECT_THROW(video_grid({}), Error);
  EXPECT_THROW(video_grid({{video(0), video(0)}, {video(0)}}), Error);
  EXPECT_THROW(video_grid({{video(0), video(0).narrow(3, 0, 2)}}), Error);
}

TEST(ContactSheet, cells_show_frames_from_the_first_to_the_last) {
  const at::Tensor sheet = contact_sheet({{video(0.1), video(0.2)}},
                                         {.frames = 3, .grid = {.scale = 1, .gap = 1}, .column_gap = 2});
  const int64_t strip = 3 * 3 + 2;
  ASSERT_EQ(sheet.sizes(), at::IntArrayRef({3, 2 + 2, 2 + strip + 2 + strip + 2}));
  EXPECT_NEAR(value(sheet, 1, 2), 0.10, 1e-6);
  EXPECT_NEAR(value(sheet, 1, 2 + 4), 0.12, 1e-6);
  EXPECT_NEAR(value(sheet, 1, 2 + 8), 0.14, 1e-6);
  EXPECT_EQ(value(sheet, 1, 2 + 3), 0);
  EXPECT_NEAR(value(sheet, 2, 2 + strip + 2), 0.20, 1e-6);
}

TEST(ContactSheet, short_videos_show_what_they_have) {
  const at::Tensor one = video(0.1).narrow(1, 0, 1);
  const at::Tensor sheet =
      contact_sheet({{one}}, {.frames = 4, .grid = {.scale = 1, .gap = 0}, .column_gap = 0});
  EXPECT_EQ(sheet.sizes(), at::IntArrayRef({3, 2, 3}));
}

TEST(ScatterPlot, dots_lie_where_the_points_are_with_y_upwards) {
  const at::Tensor none = at::zeros({0, 2});
  const at::Tensor points = at::tensor({5.0, 5.0, -5.0, -1.0}, at::kDouble).view({2, 2});
  const at::Tensor plot =
      scatter_plot(none, points, {1, 0, 0}, {.size = 120, .limit = 6, .opacity = 1, .dot = 2});
  ASSERT_EQ(plot.sizes(), at::IntArrayRef({3, 120, 120}));
  EXPECT_EQ(plot[0].min().item<double>(), 1);             // red everywhere: white and red
  EXPECT_EQ((plot[1] < 0).sum().item<int64_t>(), 2 * 4);  // two dots of four pixels
  EXPECT_EQ(value(plot, 10, 110), -1);
  EXPECT_EQ(value(plot, 70, 10), -1);
}

TEST(ScatterPlot, samples_cover_grey_data_and_points_outside_are_left_out) {
  const at::Tensor origin = at::zeros({1, 2});
  const at::Tensor far = at::tensor({50.0, 0.0, NAN, 0.0, 0.0, INFINITY}, at::kDouble).view({3, 2});
  const at::Tensor grey = scatter_plot(origin, far, {1, 0, 0}, {.opacity = 1});
  EXPECT_EQ((grey[0] < 1).sum().item<int64_t>(), 4);
  EXPECT_NEAR(value(grey, 160, 160), 2 * 0.6 - 1, 1e-6);
  const at::Tensor covered = scatter_plot(origin, origin, {1, 0, 0}, {.opacity = 1});
  EXPECT_EQ(value(covered, 160, 160), -1);
}

}  // namespace
}  // namespace tmd::orchestrator
