#include "data/dct_codec.h"

#include <array>
#include <cmath>
#include <numbers>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"

namespace tmd::data {
namespace {

constexpr int64_t kFrames = 4, kPixels = 8;

struct Kept {
  int64_t plane;  // 0 Y, 1 Cb, 2 Cr
  int64_t t, y, x;
};
// In channel order.
constexpr std::array<Kept, 16> kKept = {{{0, 0, 0, 0},
                                         {0, 0, 0, 1},
                                         {0, 0, 1, 0},
                                         {0, 1, 0, 0},
                                         {0, 0, 1, 1},
                                         {0, 0, 0, 2},
                                         {0, 0, 2, 0},
                                         {0, 1, 0, 1},
                                         {0, 1, 1, 0},
                                         {0, 2, 0, 0},
                                         {1, 0, 0, 0},
                                         {1, 0, 0, 1},
                                         {1, 0, 1, 0},
                                         {2, 0, 0, 0},
                                         {2, 0, 0, 1},
                                         {2, 0, 1, 0}}};

// Orthonormal DCT-II: row = frequency, column = position.
at::Tensor dct_matrix(int64_t n) {
  at::Tensor matrix = at::empty({n, n}, at::kDouble);
  double* out = matrix.mutable_data_ptr<double>();
  for (int64_t k = 0; k < n; ++k) {
    const double scale = std::sqrt((k == 0 ? 1.0 : 2.0) / static_cast<double>(n));
    for (int64_t i = 0; i < n; ++i) {
      const double angle =
          std::numbers::pi * static_cast<double>((2 * i + 1) * k) / static_cast<double>(2 * n);
      *out++ = scale * std::cos(angle);
    }
  }
  return matrix;
}

// [..., 4, 8, 8] -> [..., 4, 8, 8]: `time` [4, 4] and `space` [8, 8] applied to each of the last three
// dimensions.
at::Tensor transform(const at::Tensor& blocks, const at::Tensor& time, const at::Tensor& space) {
  const at::Tensor planar = at::matmul(at::matmul(space, blocks), space.t());
  return at::matmul(time, planar.flatten(-2)).view_as(planar);
}

at::Tensor ycbcr_from_rgb(const at::Tensor& rgb) {
  const at::Tensor r = rgb[0], g = rgb[1], b = rgb[2];
  const at::Tensor y = .299 * r + .587 * g + .114 * b;
  return at::stack({y, (b - y) / 1.772, (r - y) / 1.402});
}

at::Tensor rgb_from_ycbcr(const at::Tensor& planes) {
  const at::Tensor y = planes[0];
  const at::Tensor b = y + 1.772 * planes[1], r = y + 1.402 * planes[2];
  return at::stack({r, (y - .299 * r - .114 * b) / .587, b});
}

}  // namespace

at::Tensor DctCodec::encode(const at::Tensor& video) const {
  check(video.dim() == 4 && video.size(0) == 3 && video.size(1) % kFrames == 0 &&
            video.size(2) % kPixels == 0 && video.size(3) % kPixels == 0,
        ErrorKind::kData,
        fmt::format("dct-4x8x8 takes videos [3, 4T, 8H, 8W], not {}", fmt::join(video.sizes(), "x")));
  const int64_t t = video.size(1) / kFrames, h = video.size(2) / kPixels, w = video.size(3) / kPixels;
  const at::Tensor blocks = ycbcr_from_rgb(video.to(at::kDouble))
                                .reshape({3, t, kFrames, h, kPixels, w, kPixels})
                                .permute({0, 1, 3, 5, 2, 4, 6});  // [3, T, H, W, 4, 8, 8]
  const at::Tensor coefficients = transform(blocks, dct_matrix(kFrames), dct_matrix(kPixels));
  std::vector<at::Tensor> channels;
  for (const Kept& kept : kKept) {
    channels.push_back(
        coefficients[kept.plane].select(-3, kept.t).select(-2, kept.y).select(-1, kept.x));  // [T, H, W]
  }
  return at::stack(channels).to(video.scalar_type());
}

at::Tensor DctCodec::decode(const at::Tensor& latent) const {
  check(latent.dim() == 4 && latent.size(0) == static_cast<int64_t>(kKept.size()), ErrorKind::kData,
        fmt::format("dct-4x8x8 takes latents [16, T, H, W], not {}", fmt::join(latent.sizes(), "x")));
  const int64_t t = latent.size(1), h = latent.size(2), w = latent.size(3);
  const at::Tensor values = latent.to(at::kDouble);
  at::Tensor coefficients = at::zeros({3, t, h, w, kFrames, kPixels, kPixels}, values.options());
  for (size_t channel = 0; channel < kKept.size(); ++channel) {
    const Kept& kept = kKept[channel];
    coefficients[kept.plane]
        .select(-3, kept.t)
        .select(-2, kept.y)
        .select(-1, kept.x)
        .copy_(values[static_cast<int64_t>(channel)]);
  }
  const at::Tensor planes = transform(coefficients, dct_matrix(kFrames).t(), dct_matrix(kPixels).t())
                                .permute({0, 1, 4, 2, 5, 3, 6})
                                .reshape({3, t * kFrames, h * kPixels, w * kPixels});
  return rgb_from_ycbcr(planes).to(latent.scalar_type());
}

}  // namespace tmd::data
