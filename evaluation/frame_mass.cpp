#include "evaluation/frame_mass.h"

#include <algorithm>

#include <ATen/ATen.h>

namespace tmd::evaluation {
namespace {

// Marks the region around pixel `start` as seen and returns its pixel count.
int64_t flood(const FrameMass& frame, double threshold, int64_t start, std::vector<bool>& is_seen) {
  std::vector<int64_t> open = {start};
  is_seen[start] = true;
  int64_t count = 0;
  while (!open.empty()) {
    const int64_t at = open.back(), cx = at % frame.size, cy = at / frame.size;
    open.pop_back();
    ++count;
    for (int64_t y = std::max<int64_t>(cy - 1, 0); y <= std::min(cy + 1, frame.size - 1); ++y) {
      for (int64_t x = std::max<int64_t>(cx - 1, 0); x <= std::min(cx + 1, frame.size - 1); ++x) {
        const int64_t next = y * frame.size + x;
        if (is_seen[next] || frame.brightness[next] <= threshold) continue;
        is_seen[next] = true;
        open.push_back(next);
      }
    }
  }
  return count;
}

}  // namespace

FrameMass measure_frame(const at::Tensor& video, int64_t frame, double background) {
  FrameMass out;
  out.size = video.size(3);
  const int64_t pixels = out.size * out.size, plane = video.size(1) * pixels;
  const float* in = video.const_data_ptr<float>() + frame * pixels;
  out.brightness.resize(pixels);
  out.mass.resize(pixels);
  double sum_x = 0, sum_y = 0;
  for (int64_t p = 0; p < pixels; ++p) {
    std::array<double, 3> rgb;
    for (int64_t c = 0; c < 3; ++c) rgb[c] = std::clamp((in[c * plane + p] + 1.0) / 2, 0.0, 1.0);
    out.brightness[p] = std::max({rgb[0], rgb[1], rgb[2]});
    const double mass = out.mass[p] = std::max(out.brightness[p] - background, 0.0);
    if (mass == 0) continue;
    out.sum += mass;
    out.sum_squares += mass * mass;
    sum_x += mass * (static_cast<double>(p % out.size) + 0.5);
    sum_y += mass * (static_cast<double>(p / out.size) + 0.5);
    for (int64_t c = 0; c < 3; ++c) out.colour[c] += mass * rgb[c];
  }
  out.x = out.sum > 0 ? sum_x / out.sum : static_cast<double>(out.size) / 2;
  out.y = out.sum > 0 ? sum_y / out.sum : static_cast<double>(out.size) / 2;
  return out;
}

std::vector<int64_t> bright_regions(const FrameMass& frame, double threshold) {
  std::vector<bool> is_seen(frame.brightness.size());
  std::vector<int64_t> counts;
  for (size_t p = 0; p < is_seen.size(); ++p) {
    if (!is_seen[p] && frame.brightness[p] > threshold) counts.push_back(flood(frame, threshold, p, is_seen));
  }
  std::ranges::sort(counts, std::greater<>());
  return counts;
}

}  // namespace tmd::evaluation
