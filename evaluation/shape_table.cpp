#include "evaluation/shape_table.h"

#include <nlohmann/json.hpp>
#include <spdlog/fmt/fmt.h>

namespace tmd::evaluation {
namespace {

std::string percent(double share) { return fmt::format("{:.1f}", 100 * share); }
std::string ratio(const std::optional<double>& value) { return value ? fmt::format("{:.2f}", *value) : "-"; }

}  // namespace

nlohmann::json to_json(const ShapeMetrics& m) {
  nlohmann::json json = {{"samples", m.samples},
                         {"one_object", m.one_object},
                         {"shape", m.shape},
                         {"colour", m.colour},
                         {"motion", m.motion},
                         {"speed", m.speed},
                         {"joint", m.joint.estimate},
                         {"joint_low", m.joint.low},
                         {"joint_high", m.joint.high},
                         {"frechet", m.frechet},
                         {"frechet_floor", m.frechet_floor},
                         {"coverage", m.coverage},
                         {"precision", m.precision},
                         {"position_entropy", m.position_entropy},
                         {"position_entropy_ratio", m.position_entropy_ratio},
                         {"motion_energy_ratio", m.motion_energy_ratio},
                         {"pixel_sliced_w1", m.pixel_sliced_w1},
                         {"pixel_sliced_w1_floor", m.pixel_sliced_w1_floor},
                         {"path_sliced_w1", m.path_sliced_w1},
                         {"path_sliced_w1_floor", m.path_sliced_w1_floor}};
  const auto put = [&](const char* key, const std::optional<double>& value) {
    json[key] = nullptr;
    if (value) json[key] = *value;
  };
  put("residual", m.residual);
  put("speed_ratio", m.speed_ratio);
  put("prompt_entropy_ratio", m.prompt_entropy_ratio);
  put("prompt_diversity_ratio", m.prompt_diversity_ratio);
  put("saturation_ratio", m.saturation_ratio);
  put("contrast_ratio", m.contrast_ratio);
  put("teacher_distance", m.teacher_distance);
  put("motion_energy_to_teacher", m.motion_energy_to_teacher);
  return json;
}

const std::vector<Metric>& shape_metric_list() {
  static const std::vector<Metric> list = {{"joint", Better::kMore},
                                           {"shape", Better::kMore},
                                           {"colour", Better::kMore},
                                           {"motion", Better::kMore},
                                           {"speed", Better::kMore},
                                           {"one_object", Better::kMore},
                                           {"frechet", Better::kLess},
                                           {"coverage", Better::kMore},
                                           {"precision", Better::kMore},
                                           {"position_entropy_ratio", Better::kNearOne},
                                           {"prompt_entropy_ratio", Better::kNearOne},
                                           {"prompt_diversity_ratio", Better::kNearOne},
                                           {"residual", Better::kLess},
                                           {"speed_ratio", Better::kNearOne},
                                           {"motion_energy_ratio", Better::kNearOne},
                                           {"motion_energy_to_teacher", Better::kNearOne},
                                           {"saturation_ratio", Better::kNearOne},
                                           {"contrast_ratio", Better::kNearOne},
                                           {"pixel_sliced_w1", Better::kLess},
                                           {"path_sliced_w1", Better::kLess},
                                           {"teacher_distance", Better::kNeither}};
  return list;
}

std::vector<std::string> shape_metric_headings() {
  return {"joint %", "shape",    "colour",    "motion",    "speed",      "FD",
          "(floor)", "coverage", "precision", "entropy x", "per prompt", "residual px",
          "speed x", "energy x", "pixel SW",  "path SW"};
}

std::vector<std::string> shape_metric_cells(const ShapeMetrics& m) {
  return {percent(m.joint.estimate),
          percent(m.shape),
          percent(m.colour),
          percent(m.motion),
          percent(m.speed),
          fmt::format("{:.2f}", m.frechet),
          fmt::format("{:.2f}", m.frechet_floor),
          percent(m.coverage),
          percent(m.precision),
          ratio(m.position_entropy_ratio),
          ratio(m.prompt_entropy_ratio),
          ratio(m.residual),
          ratio(m.speed_ratio),
          ratio(m.motion_energy_ratio),
          fmt::format("{:.4f}", m.pixel_sliced_w1),
          fmt::format("{:.2f}", m.path_sliced_w1)};
}

std::string one_line(const ShapeMetrics& m) {
  return fmt::format(
      "joint {:.1f} % [{:.1f}, {:.1f}]  FD {:.2f} (floor {:.2f})  coverage {:.1f} %  entropy x{:.2f}  "
      "residual {} px  speed x{}",
      100 * m.joint.estimate, 100 * m.joint.low, 100 * m.joint.high, m.frechet, m.frechet_floor,
      100 * m.coverage, m.position_entropy_ratio, ratio(m.residual), ratio(m.speed_ratio));
}

}  // namespace tmd::evaluation
