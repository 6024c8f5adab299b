#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

namespace tmd::orchestrator {

/// Pictures of samples. All are float32 in [-1, 1]; a picture is [3, H, W], a video [3, F, H, W].

/// Every pixel becomes a square of `factor` pixels. [..., H, W] to [..., H * factor, W * factor]. Throws
/// kInternal for a factor below 1.
at::Tensor upscaled(const at::Tensor& pictures, int64_t factor);

/// The largest whole factor, at least 1, that keeps `side` pixels within `wanted`.
int64_t upscale_factor(int64_t side, int64_t wanted);

struct GridOptions {
  int64_t scale = 4;  ///< upscale factor
  int64_t gap = 4;    ///< grey pixels between neighbours and around, after upscaling
};

/// Videos [row][column], each [3, F, H, W], beside and below each other as one video
/// [3, F, rows * (H * scale + gap) + gap, columns * (W * scale + gap) + gap]. Throws kInternal for ragged
/// rows, no video or videos of different sizes.
at::Tensor video_grid(const std::vector<std::vector<at::Tensor>>& videos, const GridOptions& options = {});

struct ContactSheetOptions {
  int64_t frames = 4;  ///< of each video, evenly spaced from the first to the last; fewer when it has fewer
  GridOptions grid = {};
  int64_t column_gap = 12;  ///< grey pixels between the frames of neighbouring videos
};

/// Videos [row][column] as one picture: rows are prompts, columns are models, each cell shows a few frames
/// side by side: [3, H', W']. Throws as video_grid does, and kInternal for no frames.
at::Tensor contact_sheet(const std::vector<std::vector<at::Tensor>>& videos,
                         const ContactSheetOptions& options = {});

struct ScatterOptions {
  int64_t size = 320;     ///< height and width
  double limit = 6;       ///< the picture shows [-limit, limit] in both axes, y upwards
  double opacity = 0.35;  ///< of one dot
  int64_t dot = 2;        ///< its height and width in pixels
};

/// Points of the plane on white: `data` [N, 2] grey below `samples` [M, 2] in `colour` (RGB, 0 to 1). Points
/// outside or not finite are left out. Returns [3, size, size]. Throws kInternal for another shape, and for a
/// size or limit that leaves no room for a dot.
at::Tensor scatter_plot(const at::Tensor& data, const at::Tensor& samples,
                        const std::array<double, 3>& colour, const ScatterOptions& options = {});

}  // namespace tmd::orchestrator
