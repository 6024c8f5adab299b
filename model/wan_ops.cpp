#include "model/wan_ops.h"

#include <sstream>

#include <ATen/ATen.h>
#include <spdlog/fmt/fmt.h>

#include "base/error.h"
#include "sharding/forward_mode.h"

namespace tmd::model {

namespace {
constexpr int64_t kPh = WanConfig::kPatchHeight, kPw = WanConfig::kPatchWidth;
}

TokenGrid token_grid(const at::Tensor& latent) {
  std::ostringstream shape;
  shape << latent.sizes();
  check(latent.dim() == 5 && latent.size(3) % kPh == 0 && latent.size(4) % kPw == 0, ErrorKind::kData,
        fmt::format("a latent of shape {} cannot be cut into patches of 1 x 2 x 2", shape.str()),
        "latents are [batch, channels, frames, height, width] with even height and width");
  return {latent.size(2), latent.size(3) / kPh, latent.size(4) / kPw};
}

at::Tensor patchify(const at::Tensor& latent) {
  const TokenGrid grid = token_grid(latent);
  const int64_t batch = latent.size(0), channels = latent.size(1);
  return latent.reshape({batch, channels, grid.frames, grid.height, kPh, grid.width, kPw})
      .permute({0, 2, 3, 5, 1, 4, 6})  // [B, f, h, w, C, ph, pw]
      .reshape({batch, grid.tokens(), channels * kPh * kPw});
}

at::Tensor unpatchify(const at::Tensor& patches, const TokenGrid& grid) {
  const int64_t batch = patches.size(0), channels = patches.size(2) / (kPh * kPw);
  return patches.reshape({batch, grid.frames, grid.height, grid.width, kPh, kPw, channels})
      .permute({0, 6, 1, 2, 4, 3, 5})  // [B, C, f, h, ph, w, pw]
      .reshape({batch, channels, grid.frames, grid.height * kPh, grid.width * kPw});
}

at::Tensor sinusoid(const at::Tensor& time, int64_t freq_dim) {
  const int64_t half = freq_dim / 2;
  const at::Tensor exponent = at::arange(half, at::kDouble) / static_cast<double>(-half);
  const at::Tensor angles = time.to(at::kDouble).unsqueeze(1) * at::pow(10000.0, exponent).unsqueeze(0);
  return at::cat({at::cos(angles), at::sin(angles)}, 1);
}

at::Tensor rope_rotations(const TokenGrid& grid, int64_t head_dim, at::ScalarType type) {
  const int64_t spatial = 2 * (head_dim / 6), temporal = head_dim - 2 * spatial;
  const auto angles = [](int64_t positions, int64_t dim) {  // [positions, dim / 2]
    const at::Tensor exponent = at::arange(dim / 2, at::kDouble) * (-2.0 / static_cast<double>(dim));
    return at::arange(positions, at::kDouble).unsqueeze(1) * at::pow(10000.0, exponent).unsqueeze(0);
  };
  const auto spread = [&grid](const at::Tensor& axis_angles, at::IntArrayRef shape) {
    return axis_angles.view(shape).expand({grid.frames, grid.height, grid.width, axis_angles.size(1)});
  };
  const at::Tensor all = at::cat({spread(angles(grid.frames, temporal), {grid.frames, 1, 1, temporal / 2}),
                                  spread(angles(grid.height, spatial), {1, grid.height, 1, spatial / 2}),
                                  spread(angles(grid.width, spatial), {1, 1, grid.width, spatial / 2})},
                                 3)
                             .reshape({grid.tokens(), head_dim / 2});
  return at::complex(at::cos(all).to(type), at::sin(all).to(type));
}

at::Tensor wide(const at::Tensor& x) { return x.scalar_type() == at::kBFloat16 ? x.to(at::kFloat) : x; }

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const at::ScalarType type = v.scalar_type();
  const at::Tensor queries = q.to(type).transpose(1, 2), keys = k.to(type).transpose(1, 2),
                   values = v.transpose(1, 2);
  // [B, heads, N, d]; fused attention has no derivative in forward mode
  const at::Tensor out = sharding::carries_tangent({q, k, v})
                             ? std::get<0>(at::_scaled_dot_product_attention_math(queries, keys, values))
                             : at::scaled_dot_product_attention(queries, keys, values);
  return out.transpose(1, 2).reshape({q.size(0), q.size(1), q.size(2) * q.size(3)});
}

}  // namespace tmd::model
