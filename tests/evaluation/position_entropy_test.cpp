#include "evaluation/position_entropy.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace tmd::evaluation {
namespace {

ShapeReading at_place(double x, double y) {
  ShapeReading reading;
  reading.mid_x = x;
  reading.mid_y = y;
  return reading;
}

TEST(PositionEntropy, every_cell_alike_is_the_largest) {
  std::vector<ShapeReading> readings;
  for (int i = 0; i < 16; ++i) readings.push_back(at_place(4 * (i % 4) + 1, 4 * (i / 4) + 3.9));
  EXPECT_NEAR(position_entropy(readings, 16), std::log(16), 1e-12);
}

TEST(PositionEntropy, one_cell_has_none_and_two_cells_have_log_two) {
  EXPECT_EQ(position_entropy(std::vector{at_place(0, 0), at_place(3.9, 3.9)}, 16), 0);
  EXPECT_NEAR(position_entropy(std::vector{at_place(0, 0), at_place(4.1, 3.9)}, 16), std::log(2), 1e-12);
}

TEST(PositionEntropy, places_outside_belong_to_the_border) {
  EXPECT_EQ(position_entropy(std::vector{at_place(-5, 0), at_place(0, 0)}, 16), 0);
  EXPECT_EQ(position_entropy(std::vector{at_place(40, 0), at_place(15, 0)}, 16), 0);
  EXPECT_EQ(position_entropy(std::vector<ShapeReading>{}, 16), 0);
}

TEST(PromptPositionEntropy, one_layout_per_prompt_is_seen) {
  std::vector<ShapeReading> readings;
  std::vector<data::ShapeLabel> labels;
  for (int64_t i = 0; i < 16; ++i) {
    labels.push_back({.colour = i % 4});
    readings.push_back(at_place(static_cast<double>(4 * (i % 4)), 1));
  }
  EXPECT_NEAR(position_entropy(readings, 16), std::log(4), 1e-12);
  EXPECT_EQ(prompt_position_entropy(readings, labels, 16), 0);
}

TEST(PromptPositionEntropy, prompts_with_few_samples_are_left_out) {
  const std::vector<ShapeReading> readings = {at_place(0, 0), at_place(15, 0), at_place(0, 0)};
  const std::vector<data::ShapeLabel> labels = {{}, {}, {.shape = 1}};
  EXPECT_NEAR(*prompt_position_entropy(readings, labels, 16, 2), std::log(2), 1e-12);
  EXPECT_NEAR(*prompt_position_entropy(readings, labels, 16, 1), std::log(2) / 2, 1e-12);
  EXPECT_FALSE(prompt_position_entropy(readings, labels, 16, 4).has_value());
}

}  // namespace
}  // namespace tmd::evaluation
