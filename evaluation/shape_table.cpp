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
                         {"prompt_entropy_ratio", nullptr},
                         {"residual", m.residual},
                         {"speed_ratio", nullptr},
                         {"motion_energy_ratio", m.motion_energy_ratio},
                         {"pixel_sliced_w1", m.pixel_sliced_w1},
                         {"pixel_sliced_w1_floor", m.pixel_sliced_w1_floor},
                         {"path_sliced_w1", m.path_sliced_w1},
                         {"path_sliced_w1_floor", m.path_sliced_w1_floor}};
  if (m.speed_ratio) json["speed_ratio"] = *m.speed_ratio;
  if (m.prompt_entropy_ratio) json["prompt_entropy_ratio"] = *m.prompt_entropy_ratio;
  return json;
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
          fmt::format("{:.2f}", m.residual),
          ratio(m.speed_ratio),
          ratio(m.motion_energy_ratio),
          fmt::format("{:.4f}", m.pixel_sliced_w1),
          fmt::format("{:.2f}", m.path_sliced_w1)};
}

std::string one_line(const ShapeMetrics& m) {
  return fmt::format(
      "joint {:.1f} % [{:.1f}, {:.1f}]  FD {:.2f} (floor {:.2f})  coverage {:.1f} %  entropy x{:.2f}  "
      "residual {:.2f} px  speed x{}",
      100 * m.joint.estimate, 100 * m.joint.low, 100 * m.joint.high, m.frechet, m.frechet_floor,
      100 * m.coverage, m.position_entropy_ratio, m.residual, ratio(m.speed_ratio));
}

}  // namespace tmd::evaluation
