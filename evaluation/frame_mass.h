#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::evaluation {

/// Where one frame of a video is bright. Brightness is the largest of red, green and blue, 0 to 1, so that
/// objects of every colour weigh the same; mass is what exceeds the brightness of the background.
struct FrameMass {
  int64_t size = 0;                   ///< height and width
  std::vector<double> brightness;     ///< [size * size], row by row
  std::vector<double> mass;           ///< [size * size]
  double sum = 0, sum_squares = 0;    ///< of mass
  double x = 0, y = 0;                ///< centroid of mass in pixels, the picture's centre when there is none
  std::array<double, 3> colour = {};  ///< sum of mass * RGB
};

/// Frame `frame` of `video` [3, F, S, S] float32 in [-1, 1], contiguous on the host (not checked); values
/// outside are clamped. `background` is in [0, 1).
FrameMass measure_frame(const at::Tensor& video, int64_t frame, double background);

/// Pixel counts of the bright regions of a frame (8-connected, brightness above `threshold`), largest first.
std::vector<int64_t> bright_regions(const FrameMass& frame, double threshold);

}  // namespace tmd::evaluation
