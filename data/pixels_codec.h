#pragma once

#include "data/codec.h"

namespace tmd::data {

/// pixels-2x2: each 2x2 block of pixels becomes channels, channel = (c * 2 + dy) * 2 + dx.
/// video [3, T, 2H, 2W] <-> latent [12, T, H, W]; exact both ways.
class PixelsCodec : public Codec {
 public:
  std::string name() const override { return "pixels-2x2"; }
  at::Tensor encode(const at::Tensor& video) const override;
  at::Tensor decode(const at::Tensor& latent) const override;
};

}  // namespace tmd::data
