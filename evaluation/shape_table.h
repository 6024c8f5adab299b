#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "evaluation/shape_metrics.h"

namespace tmd::evaluation {

/// One key per member but joint_hits and values; null for a ratio that there is not. The interval is joint,
/// joint_low, joint_high.
nlohmann::json to_json(const ShapeMetrics& metrics);
/// The keys that two rows can be compared by.
const std::vector<Metric>& shape_metric_list();
/// Column titles and one row of cells of the printed table, equally many.
std::vector<std::string> shape_metric_headings();
std::vector<std::string> shape_metric_cells(const ShapeMetrics& metrics);
/// "joint 93.8 % [90.6, 96.5]  FD 0.41 (floor 0.12)  ...": the headline numbers.
std::string one_line(const ShapeMetrics& metrics);

}  // namespace tmd::evaluation
