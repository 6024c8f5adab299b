#pragma once

#include <functional>
#include <string>

#include <ATen/ATen.h>

#include "integer_hash.h"
#include "model/discriminator.h"
#include "sharding/initialise.h"

namespace tmd::test {

/// Two branches on maps of 8 channels. The widths of the convolutions make one group and several.
inline model::DiscriminatorConfig toy_discriminator(model::DiscriminatorKind kind) {
  return {.kind = kind,
          .channels = 8,
          .heads = 2,
          .scales = {1, 2, 4},
          .hidden = 16,
          .dropout = 0.5,
          .conv_widths = {6, 12, 16},
          .attention = {.width = 12, .heads = 3, .layers = 2}};
}

/// Start values, and on top of each a number of its own: no bias is zero, no norm the identity.
inline void fill_discriminator(sharding::ShardedNetwork& network) {
  sharding::initialise(network, 3);
  sharding::fill_slices(network, [](const sharding::Slice& slice, at::Tensor out) {
    const uint64_t tensor = std::hash<std::string>()(slice.name) % 100000;
    for (int64_t i = 0; i < out.numel(); ++i) {
      const auto place = static_cast<uint64_t>(slice.place_in_tensor(slice.flat_begin + i));
      out[i] += 0.2 * hashed(tensor, place);
    }
  });
}

inline std::string kind_name(model::DiscriminatorKind kind) {
  return kind == model::DiscriminatorKind::kConv3d     ? "conv3d"
         : kind == model::DiscriminatorKind::kConv1d2d ? "conv1d_2d"
                                                       : "attention";
}

}  // namespace tmd::test
