#include "data/pixels_codec.h"

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"

namespace tmd::data {

at::Tensor PixelsCodec::encode(const at::Tensor& video) const {
  check(video.dim() == 4 && video.size(0) == 3 && video.size(2) % 2 == 0 && video.size(3) % 2 == 0,
        ErrorKind::kData,
        fmt::format("pixels-2x2 takes videos [3, frames, even height, even width], not {}",
                    fmt::join(video.sizes(), "x")));
  const int64_t frames = video.size(1), height = video.size(2) / 2, width = video.size(3) / 2;
  return video
      .reshape({3, frames, height, 2, width, 2})  // c, t, h, dy, w, dx
      .permute({0, 3, 5, 1, 2, 4})
      .reshape({12, frames, height, width});
}

at::Tensor PixelsCodec::decode(const at::Tensor& latent) const {
  check(latent.dim() == 4 && latent.size(0) == 12, ErrorKind::kData,
        fmt::format("pixels-2x2 takes latents [12, T, H, W], not {}", fmt::join(latent.sizes(), "x")));
  const int64_t frames = latent.size(1), height = latent.size(2), width = latent.size(3);
  return latent
      .reshape({3, 2, 2, frames, height, width})  // c, dy, dx, t, h, w
      .permute({0, 3, 4, 1, 5, 2})
      .reshape({3, frames, 2 * height, 2 * width});
}

}  // namespace tmd::data
