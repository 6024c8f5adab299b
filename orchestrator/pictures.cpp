#include "orchestrator/pictures.h"

#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

#include "base/error.h"

namespace tmd::orchestrator {
namespace {

constexpr double kGrey = 0;        // the gaps, half-way between black and white
constexpr double kDataGrey = 0.6;  // dots of the data

void check_grid(const std::vector<std::vector<at::Tensor>>& videos) {
  ensure(!videos.empty() && !videos[0].empty(), "a grid has a video");
  for (const auto& row : videos) {
    ensure(row.size() == videos[0].size(), "rows of a grid are equally long");
    for (const at::Tensor& video : row) {
      ensure(video.dim() == 4 && video.size(0) == 3 && video.numel() > 0,
             "a video is [3, frames, height, width]");
      ensure(video.sizes() == videos[0][0].sizes(), "videos of a grid have one size");
    }
  }
}

at::Tensor pixels_of(const at::Tensor& pictures) {
  return pictures.detach().to(at::TensorOptions(at::kCPU).dtype(at::kFloat));
}

at::Tensor grey_like(const at::Tensor& pictures, int64_t dim, int64_t count) {
  std::vector<int64_t> sizes = pictures.sizes().vec();
  sizes[dim] = count;
  return at::full(sizes, kGrey, pictures.options());
}

// Pictures along `dim` with grey between and, when `around`, before and behind.
at::Tensor joined(const std::vector<at::Tensor>& pictures, int64_t dim, int64_t gap, bool around) {
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i < pictures.size(); ++i) {
    if (i > 0 || around) parts.push_back(grey_like(pictures[i], dim, gap));
    parts.push_back(pictures[i]);
  }
  if (around) parts.push_back(grey_like(pictures.back(), dim, gap));
  return at::cat(parts, dim);
}

// Cells [row][column], last two dimensions height and width, on grey.
at::Tensor laid_out(const std::vector<std::vector<at::Tensor>>& cells, int64_t row_gap, int64_t column_gap) {
  const int64_t dims = cells[0][0].dim();
  std::vector<at::Tensor> rows;
  for (const auto& row : cells) rows.push_back(joined(row, dims - 1, column_gap, true));
  return joined(rows, dims - 2, row_gap, true);
}

// A few frames of a video [3, F, H, W] beside each other: [3, H, ...].
at::Tensor film_strip(const at::Tensor& video, int64_t frames, int64_t gap) {
  const int64_t shown = std::min(frames, video.size(1));
  std::vector<at::Tensor> pictures;
  for (int64_t i = 0; i < shown; ++i)
    pictures.push_back(video.select(1, shown == 1 ? 0 : i * (video.size(1) - 1) / (shown - 1)));
  return joined(pictures, 2, gap, false);
}

class Canvas {
 public:
  explicit Canvas(const ScatterOptions& options)
      : options_(options), picture_(at::ones({3, options.size, options.size}, at::kFloat)) {}

  void dot(double x, double y, const std::array<double, 3>& colour) {
    const double scale = static_cast<double>(options_.size) / (2 * options_.limit);
    const double left = (x + options_.limit) * scale - static_cast<double>(options_.dot) / 2;
    const double top = (options_.limit - y) * scale - static_cast<double>(options_.dot) / 2;
    const auto size = static_cast<double>(options_.size - options_.dot);
    if (!(left >= 0 && top >= 0 && left <= size && top <= size)) return;  // NaN is outside as well
    blend(std::lround(left), std::lround(top), colour);
  }
  at::Tensor picture() const { return picture_; }

 private:
  void blend(int64_t left, int64_t top, const std::array<double, 3>& colour) {
    auto pixels = picture_.accessor<float, 3>();
    for (int64_t c = 0; c < 3; ++c) {
      const double value = 2 * colour[c] - 1;
      for (int64_t y = top; y < top + options_.dot; ++y) {
        for (int64_t x = left; x < left + options_.dot; ++x)
          pixels[c][y][x] =
              static_cast<float>(pixels[c][y][x] + options_.opacity * (value - pixels[c][y][x]));
      }
    }
  }

  ScatterOptions options_;
  at::Tensor picture_;  // [3, size, size]
};

void draw(Canvas& canvas, const at::Tensor& points, const std::array<double, 3>& colour) {
  ensure(points.dim() == 2 && points.size(1) == 2, "points of a plot are [N, 2]");
  const at::Tensor host = points.detach().to(at::TensorOptions(at::kCPU).dtype(at::kDouble)).contiguous();
  const double* point = host.const_data_ptr<double>();
  for (int64_t i = 0; i < host.size(0); ++i, point += 2) canvas.dot(point[0], point[1], colour);
}

}  // namespace

at::Tensor upscaled(const at::Tensor& pictures, int64_t factor) {
  ensure(factor >= 1, "an upscale factor is positive");
  return pixels_of(pictures).repeat_interleave(factor, -1).repeat_interleave(factor, -2);
}

int64_t upscale_factor(int64_t side, int64_t wanted) { return std::max<int64_t>(1, wanted / side); }

at::Tensor video_grid(const std::vector<std::vector<at::Tensor>>& videos, const GridOptions& options) {
  check_grid(videos);
  std::vector<std::vector<at::Tensor>> cells;
  for (const auto& row : videos) {
    cells.emplace_back();
    for (const at::Tensor& video : row) cells.back().push_back(upscaled(video, options.scale));
  }
  return laid_out(cells, options.gap, options.gap);
}

at::Tensor contact_sheet(const std::vector<std::vector<at::Tensor>>& videos,
                         const ContactSheetOptions& options) {
  check_grid(videos);
  ensure(options.frames >= 1, "a contact sheet shows a frame of each video");
  std::vector<std::vector<at::Tensor>> cells;
  for (const auto& row : videos) {
    cells.emplace_back();
    for (const at::Tensor& video : row)
      cells.back().push_back(
          film_strip(upscaled(video, options.grid.scale), options.frames, options.grid.gap));
  }
  return laid_out(cells, options.grid.gap, options.column_gap);
}

at::Tensor scatter_plot(const at::Tensor& data, const at::Tensor& samples,
                        const std::array<double, 3>& colour, const ScatterOptions& options) {
  ensure(options.size > options.dot && options.dot >= 1 && options.limit > 0, "a plot has room for a dot");
  Canvas canvas(options);
  draw(canvas, data, {kDataGrey, kDataGrey, kDataGrey});
  draw(canvas, samples, colour);
  return canvas.picture();
}

}  // namespace tmd::orchestrator
