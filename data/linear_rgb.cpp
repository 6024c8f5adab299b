#include "data/linear_rgb.h"

#include <array>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include "base/error.h"

namespace tmd::data {
namespace {

// Red, green, blue per latent channel.
constexpr std::array<std::array<double, 3>, 16> kColours = {{{-0.1299, -0.1692, 0.2932},
                                                             {0.0671, 0.0406, 0.0442},
                                                             {0.3568, 0.2548, 0.1747},
                                                             {0.0372, 0.2344, 0.1420},
                                                             {0.0313, 0.0189, -0.0328},
                                                             {0.0296, -0.0956, -0.0665},
                                                             {-0.3477, -0.4059, -0.2925},
                                                             {0.0166, 0.1902, 0.1975},
                                                             {-0.0412, 0.0267, -0.1364},
                                                             {-0.1293, 0.0740, 0.1636},
                                                             {0.0680, 0.3019, 0.1128},
                                                             {0.0032, 0.0581, 0.0639},
                                                             {-0.1251, 0.0927, 0.1699},
                                                             {0.0060, -0.0633, 0.0005},
                                                             {0.3477, 0.2275, 0.2950},
                                                             {0.1984, 0.0913, 0.1861}}};
constexpr std::array<double, 3> kBias = {-0.1835, -0.0868, -0.3360};

at::Tensor colours() {
  at::Tensor matrix = at::empty({16, 3}, at::kDouble);
  double* out = matrix.mutable_data_ptr<double>();
  for (const auto& row : kColours) out = std::copy(row.begin(), row.end(), out);
  return matrix;
}

}  // namespace

at::Tensor linear_rgb(const at::Tensor& z) {
  check(z.dim() == 4 && z.size(0) == static_cast<int64_t>(kColours.size()), ErrorKind::kData,
        fmt::format("linear colours are for latents [16, T, h, w], not {}", fmt::join(z.sizes(), "x")));
  const at::Tensor bias = at::tensor(at::ArrayRef<double>(kBias), at::kDouble).view({3, 1, 1, 1});
  const at::Tensor rgb = at::tensordot(colours(), z.to(at::kDouble), {0}, {0}) + bias;
  return rgb.clamp(-1, 1).to(z.scalar_type());
}

}  // namespace tmd::data
