#include "orchestrator/latent_sheet.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "orchestrator/pictures.h"
#include "orchestrator/png_file.h"
#include "orchestrator/webp_file.h"

namespace tmd::orchestrator {
namespace {

constexpr int64_t kWantedSide = 96;  // pixels of a video on the sheet

}  // namespace

void write_sheet(const LatentPictures& pictures, const std::vector<SheetColumn>& columns,
                 const std::filesystem::path& stem) {
  const at::Tensor& first = columns.front().latents;
  if (pictures.is_plot()) {
    std::vector<at::Tensor> plots;
    for (const SheetColumn& column : columns) plots.push_back(pictures.plot(first, column.latents));
    return write_png(stem.string() + ".png", at::cat(plots, 2));
  }
  std::vector<std::vector<at::Tensor>> rows(static_cast<size_t>(first.size(0)));
  for (const SheetColumn& column : columns) {
    const auto videos = pictures.videos(column.latents);
    ensure(videos.size() == rows.size(), "columns of a sheet have equally many samples");
    for (size_t row = 0; row < rows.size(); ++row) rows[row].push_back(videos[row]);
  }
  const GridOptions grid{.scale = upscale_factor(rows[0][0].size(3), kWantedSide)};
  write_png(stem.string() + ".png", contact_sheet(rows, {.grid = grid}));
  write_webp(stem.string() + ".webp", video_grid(rows, grid),
             {.frames_per_second = pictures.frames_per_second(rows[0][0].size(1))});
}

}  // namespace tmd::orchestrator
