#include "evaluation/shape_table.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace tmd::evaluation {
namespace {

ShapeMetrics some_metrics() {
  ShapeMetrics metrics;
  metrics.samples = 256;
  metrics.joint = {0.9375, 0.9, 0.96};
  metrics.frechet = 0.414;
  metrics.frechet_floor = 0.1;
  metrics.coverage = 0.5;
  metrics.residual = 0.25;
  metrics.speed_ratio = 0.98;
  return metrics;
}

TEST(ShapeTable, one_cell_for_each_heading) {
  EXPECT_EQ(shape_metric_cells(some_metrics()).size(), shape_metric_headings().size());
  EXPECT_EQ(shape_metric_cells(some_metrics())[0], "93.8");
}

TEST(ShapeTable, line_has_the_headline_numbers) {
  EXPECT_EQ(
      one_line(some_metrics()),
      "joint 93.8 % [90.0, 96.0]  FD 0.41 (floor 0.10)  coverage 50.0 %  entropy x0.00  residual 0.25 px  "
      "speed x0.98");
}

TEST(ShapeTable, every_metric_that_rows_are_compared_by_stands_in_the_json) {
  const nlohmann::json json = to_json(some_metrics());
  for (const Metric& metric : shape_metric_list()) EXPECT_TRUE(json.contains(metric.key)) << metric.key;
}

TEST(ShapeTable, json_keeps_full_precision_and_says_null_for_nothing) {
  ShapeMetrics metrics = some_metrics();
  EXPECT_EQ(to_json(metrics)["frechet"], 0.414);
  EXPECT_EQ(to_json(metrics)["joint_low"], 0.9);
  EXPECT_TRUE(to_json(metrics)["prompt_entropy_ratio"].is_null());
  EXPECT_EQ(to_json(metrics)["speed_ratio"], 0.98);
  metrics.prompt_entropy_ratio = 0.25;
  EXPECT_EQ(to_json(metrics)["prompt_entropy_ratio"], 0.25);
}

}  // namespace
}  // namespace tmd::evaluation
