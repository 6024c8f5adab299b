#include "evaluation/picture_statistics.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

#include "base/error.h"
#include "evaluation/point_set.h"

namespace tmd::evaluation {

PictureStatistics picture_statistics(const at::Tensor& video) {
  ensure(video.dim() == 4 && video.size(0) == 3, "a video is [3, F, H, W]");
  const at::Tensor values = point_set(video, "picture");
  const double* red = values.const_data_ptr<double>();
  const int64_t pixels = values.size(1);
  double saturation = 0, sum = 0, squares = 0;
  for (int64_t i = 0; i < pixels; ++i) {
    const auto colour = [&](int64_t c) { return std::clamp((red[c * pixels + i] + 1) / 2, 0.0, 1.0); };
    const double r = colour(0), g = colour(1), b = colour(2);
    const double luma = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    saturation += std::max({r, g, b}) - std::min({r, g, b});
    sum += luma;
    squares += luma * luma;
  }
  const auto count = static_cast<double>(pixels);
  const double variance = squares / count - (sum / count) * (sum / count);
  return {.saturation = saturation / count, .contrast = std::sqrt(std::max(0.0, variance))};
}

}  // namespace tmd::evaluation
