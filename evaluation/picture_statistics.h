#pragma once

#include <ATen/core/Tensor.h>

namespace tmd::evaluation {

/// Colour of a video, to see the drift to glaring or pale pictures that guidance and distillation bring.
struct PictureStatistics {
  double saturation = 0;  ///< mean over pixels of the largest less the smallest of red, green, blue; 0 to 1
  double contrast = 0;    ///< standard deviation over all pixels of the luma (Rec. 709), brightness 0 to 1
};

/// `video` [3, F, H, W] of any element type in [-1, 1]; values outside are clamped. Throws kInternal for
/// another shape, kDiverged for values that are not finite.
PictureStatistics picture_statistics(const at::Tensor& video);

}  // namespace tmd::evaluation
