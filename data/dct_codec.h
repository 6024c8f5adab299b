#pragma once

#include "data/codec.h"

namespace tmd::data {

/// dct-4x8x8: orthonormal DCT-II of blocks of 4 frames by 8x8 pixels of Y, Cb and Cr, of which the 16 lowest
/// coefficients are kept (10 of Y, 3 of each colour plane; docs/formats/tmd-latents.md lists them).
/// video [3, 4T, 8H, 8W] -> latent [16, T, H, W]; decode is the inverse with the dropped coefficients zero,
/// so that encode(decode(z)) = z. Computed in fp64.
class DctCodec : public Codec {
 public:
  std::string name() const override { return "dct-4x8x8"; }
  at::Tensor encode(const at::Tensor& video) const override;
  at::Tensor decode(const at::Tensor& latent) const override;
};

}  // namespace tmd::data
