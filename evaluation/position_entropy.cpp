#include "evaluation/position_entropy.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <vector>

namespace tmd::evaluation {
namespace {

constexpr int64_t kCells = 4;

int64_t cell(double place, int64_t size) {
  return std::clamp(static_cast<int64_t>(std::floor(place * kCells / static_cast<double>(size))), int64_t{0},
                    kCells - 1);
}

}  // namespace

double position_entropy(std::span<const ShapeReading> readings, int64_t size) {
  std::array<int64_t, kCells* kCells> counts = {};
  for (const ShapeReading& r : readings) ++counts[cell(r.mid_y, size) * kCells + cell(r.mid_x, size)];
  double entropy = 0;
  for (const int64_t count : counts) {
    const double share = static_cast<double>(count) / static_cast<double>(readings.size());
    if (count > 0) entropy -= share * std::log(share);
  }
  return entropy;
}

std::optional<double> prompt_position_entropy(std::span<const ShapeReading> readings,
                                              std::span<const data::ShapeLabel> labels, int64_t size,
                                              int64_t at_least) {
  std::map<std::array<int64_t, 4>, std::vector<ShapeReading>> prompts;
  for (size_t i = 0; i < readings.size(); ++i)
    prompts[{labels[i].shape, labels[i].colour, labels[i].motion, labels[i].speed}].push_back(readings[i]);
  double sum = 0;
  int64_t count = 0;
  for (const auto& [label, members] : prompts) {
    if (static_cast<int64_t>(members.size()) < at_least) continue;
    sum += position_entropy(members, size);
    ++count;
  }
  if (count == 0) return std::nullopt;
  return sum / static_cast<double>(count);
}

}  // namespace tmd::evaluation
